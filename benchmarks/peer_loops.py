"""Sensitivity sweeps as people write them: the whole model on all samples, point after point.

Three loops with the same masks, the lowest magnitudes of one layer at a time. Each returns the
correct predictions of every (layer, sparsity).
"""

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

Batches = Iterable[tuple[Tensor, Tensor]]
Counts = dict[tuple[str, float], int]
Loop = Callable[[nn.Module, Tensor, Tensor, Sequence[str], Sequence[float]], Counts]

BATCH = 256


def deep_copy(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    layers: Sequence[str],
    sparsities: Sequence[float],
) -> Counts:
    """A fresh copy of the model for every point, batches in memory."""
    batches = list(zip(inputs.split(BATCH), targets.split(BATCH), strict=True))
    counts = {}
    for layer in layers:
        for sparsity in sparsities:
            pruned = copy.deepcopy(model)
            weight = pruned.get_parameter(layer)
            weight.data.mul_(magnitude_mask(weight, sparsity))
            counts[layer, sparsity] = correct(pruned, batches)
    return counts


def in_place(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    layers: Sequence[str],
    sparsities: Sequence[float],
    batch: int = BATCH,
) -> Counts:
    """The model itself, its weight put back after every point, batches in memory."""
    batches = list(zip(inputs.split(batch), targets.split(batch), strict=True))
    return _masked_and_restored(model, batches, layers, sparsities)


def data_loader(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    layers: Sequence[str],
    sparsities: Sequence[float],
) -> Counts:
    """The model itself, its weight put back, batches from a DataLoader in this process."""
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=BATCH)
    return _masked_and_restored(model, loader, layers, sparsities)


LOOPS: dict[str, Loop] = {"deepcopy": deep_copy, "in place": in_place, "DataLoader": data_loader}


def _masked_and_restored(
    model: nn.Module, batches: Batches, layers: Sequence[str], sparsities: Sequence[float]
) -> Counts:
    counts = {}
    for layer in layers:
        weight = model.get_parameter(layer)
        dense = weight.detach().clone()
        for sparsity in sparsities:
            weight.data.mul_(magnitude_mask(weight, sparsity))
            counts[layer, sparsity] = correct(model, batches)
            weight.data.copy_(dense)
    return counts


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """1 for the weights that stay; of equal magnitudes the first stays."""
    flat = weight.detach().abs().flatten()
    kept = flat.numel() - round(sparsity * flat.numel())
    mask = torch.zeros_like(flat)
    mask[flat.argsort(descending=True, stable=True)[:kept]] = 1
    return mask.reshape(weight.shape)


@torch.no_grad()
def correct(model: nn.Module, batches: Batches) -> int:
    """How many samples the model, wherever it is, gets right."""
    model.eval()
    device = next(model.parameters()).device
    return sum((model(x.to(device)).argmax(1) == y.to(device)).sum().item() for x, y in batches)
