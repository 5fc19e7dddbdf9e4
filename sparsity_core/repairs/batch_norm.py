"""Batch norm: statistics of what arrives now, not of what arrived before pruning."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparsity_core.errors import SparsityError
from sparsity_core.probe import Batch
from sparsity_core.repairs.repair import REPAIRS, Damage, Repair
from sparsity_core.trace import eval_mode
from sparsity_core.weights import Masks, check_finite


@REPAIRS.register("batch-norm")
@dataclass(frozen=True)
class BatchNorm(Repair):
    """Running mean and variance of every batch norm, measured anew on all samples together.

    Norm after norm in the order of the forward pass, the earlier ones already using their new
    statistics, so the result is that of one batch of all samples, however they are batched. Costs
    one forward pass a norm; all else is in eval mode (no dropout). Source: Li et al. 2017 (AdaBN),
    arXiv 1603.04779; after pruning Li et al. 2020 (EagleEye), arXiv 2007.02491.
    """

    def repair_(self, model: nn.Module, damage: Damage) -> tuple[Masks, dict[str, str]]:
        """Recalibrate in place; a model without running statistics is reported, layer by layer."""
        norms = _in_order_of_use(model, damage.batches)
        for name in norms:
            _recalibrate_(model, name, damage.batches)
        if norms:
            return damage.masks, {}
        reason = "the model has no batch norm with running statistics; choose bias-correction"
        layers = [name for name in damage.masks if damage.masks[name].dim() > 1]
        return damage.masks, dict.fromkeys(layers, reason)


def _recalibrate_(model: nn.Module, name: str, batches: list[Batch]) -> None:
    """Mean and unbiased variance of each channel over samples and positions."""
    norm = model.get_submodule(name)
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    count = 0
    total, squares = (torch.zeros_like(norm.running_mean, dtype=torch.float64) for _ in range(2))

    def add(_: str, inputs: Tensor) -> None:
        nonlocal count
        values = inputs.double().transpose(0, 1).flatten(1)  # (channels, samples * positions)
        count += values.shape[1]
        total.add_(values.sum(1))
        squares.add_(values.square().sum(1))

    with _listening(model, [name], add):
        for inputs, _ in batches:
            model(inputs)
    if count < 2:
        raise SparsityError(f"{name}: one sample has no variance; give two samples or more")
    check_finite(name, squares, "statistics")
    mean = total / count
    norm.running_mean.copy_(mean)
    norm.running_var.copy_((squares - count * mean.square()).clamp(min=0) / (count - 1))


def _in_order_of_use(model: nn.Module, batches: list[Batch]) -> list[str]:
    order: dict[str, None] = {}
    norms = [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
    with _listening(model, norms, lambda name, _: order.setdefault(name)):
        model(batches[0][0][:1])
    return list(order)


@contextmanager
def _listening(
    model: nn.Module, names: list[str], seen: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Call `seen` with the name and input of each named module; in eval mode, without gradients."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: seen(name, inputs[0])

    handles = [model.get_submodule(name).register_forward_pre_hook(hook(name)) for name in names]
    try:
        with eval_mode(model), torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()
