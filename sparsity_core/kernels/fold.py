"""Batch norms folded into the layers before them: the same outputs, and one pass over them less."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.follow import paths
from sparsity_core.weights import prunable

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def fold_batch_norms_(model: nn.Module, sample: Tensor) -> list[str]:
    """Fold each batch norm into the layer whose outputs it alone reads, in place; their paths.

    `model` is in eval mode; `sample`: inputs of it, from which is seen what follows what. The norm
    becomes nn.Identity and the layer gets a bias; zeros stay zeros. A layer or a norm that is used
    twice, or a norm without scale, stays as it is.
    """
    modules = dict(model.named_modules())
    uses = _uses(model, sample)
    folded = []
    for path in paths(model, sample[:1], prunable(model)):
        if path.norm is None or path.norm.scale is None:
            continue
        layer_path = path.name.rpartition(".")[0]
        norm_path = path.norm.scale.rpartition(".")[0]
        layer, norm = modules[layer_path], modules[norm_path]
        once = uses[layer_path] == uses[norm_path] == 1 and _owners(model, layer) == 1
        if once and isinstance(layer, _LAYERS) and isinstance(norm, _NORMS):
            _fold_(layer, norm)
            parent, _, child = norm_path.rpartition(".")
            setattr(model.get_submodule(parent), child, nn.Identity())
            folded.append(norm_path)
    return folded


def _fold_(layer: nn.Module, norm: Any) -> None:
    """gamma * (w x + b - mean) / sqrt(var + eps) + beta as one weight and one bias."""
    weight: Any = layer.weight
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias = torch.zeros_like(scale) if layer.bias is None else layer.bias
    shift = (bias - norm.running_mean) * scale + norm.bias
    wide = scale.reshape(-1, *[1] * (weight.dim() - 1))
    # Not a product where the weight is zero: an infinite scale would make it NaN.
    folded = torch.where(weight == 0, weight, weight * wide)
    layer.weight = nn.Parameter(folded, requires_grad=weight.requires_grad)
    layer.bias = nn.Parameter(shift, requires_grad=weight.requires_grad)


def _uses(model: nn.Module, sample: Tensor) -> Counter[str]:
    """How often each module runs in a forward pass."""
    uses: Counter[str] = Counter()

    def counting(path: str) -> Callable[..., None]:
        def count(*_: Any) -> None:
            uses[path] += 1

        return count

    hooks = [m.register_forward_hook(counting(path)) for path, m in model.named_modules()]
    try:
        model(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return uses


def _owners(model: nn.Module, layer: nn.Module) -> int:
    """How many modules have this layer's weight."""
    return sum(
        any(p is layer.weight for p in module._parameters.values()) for module in model.modules()
    )
