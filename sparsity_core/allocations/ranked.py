"""One ranking over the units of all layers: the lowest go, wherever they are."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_core.allocations.allocation import ALLOCATIONS, Allocation, Budget, Layer
from sparsity_core.errors import SparsityError
from sparsity_core.selection import keep_best


@ALLOCATIONS.register("global")
@dataclass(frozen=True)
class Global(Allocation):
    """The lowest-scored units of the whole model go, wherever they are.

    A unit's score is its mean score per weight, so that large and small units compete for the same
    budget of weights. Layers may be emptied; `prune` reports those that were. Source: Frankle &
    Carbin 2019, arXiv 1803.03635, for their deep networks.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """The share of each layer's units that is below the common cut; never over the budget."""
        return _below_common_cut(layers, [layer.units for layer in layers.values()], target)


@ALLOCATIONS.register("lamp")
@dataclass(frozen=True)
class LAMP(Allocation):
    """Global over u^2 / (sum of the v^2 in the layer that are not smaller), u the unit's score.

    The best unit of each layer scores 1, so no layer is emptied before all are. With the scorer
    `magnitude` it is the paper's method. Source: Lee et al. 2021, arXiv 2010.07611.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """The share of each layer's units that is below the common cut; never over the budget."""
        return _below_common_cut(layers, [lamp(layer.units) for layer in layers.values()], target)


def lamp(units: Tensor) -> Tensor:
    """LAMP scores of a layer's units, flat, float64; units already pruned score -inf."""
    flat = units.reshape(-1).double()
    squares = torch.where(flat.isneginf(), 0, flat).square()
    # Among equals the first rank higher, so the last of them is the first in the tail.
    order = flat.argsort(descending=True, stable=True)
    tails = squares[order].cumsum(0)
    scores = torch.empty_like(squares)
    scores[order] = torch.where(tails > 0, squares[order] / tails, 0)
    return scores.masked_fill(flat.isneginf(), -torch.inf)


@ALLOCATIONS.register("flops")
@dataclass(frozen=True)
class Flops(Allocation):
    """Global, but the target is a share of multiply-adds rather than of weights.

    The lowest-scored units of the model go until that share of the products of one sample is gone,
    so a convolution used at many places spends more of the budget than its few weights say.
    """

    @property
    def budget(self) -> Budget:
        """Multiply-adds."""
        return "macs"

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """The share of each layer's units below the common cut; never over the budget."""
        if layers and not sum(layer.macs for layer in layers.values()):
            raise SparsityError(
                "flops: no layer has any multiply-adds; give the probe a batch, or choose global"
            )
        scores = [layer.units for layer in layers.values()]
        return _below_common_cut(layers, scores, target, lambda layer: layer.macs)


def _below_common_cut(
    layers: Mapping[str, Layer],
    scores: Sequence[Tensor],
    target: float,
    cost: Callable[[Layer], int] = lambda layer: layer.size,
) -> dict[str, float]:
    """The lowest units of all layers in one ranking go, while the budget lasts."""
    if not layers:
        return {}
    flat = torch.cat([score.reshape(-1).double() for score in scores]).cpu()
    counts = [layer.units.numel() for layer in layers.values()]
    costs = [cost(layer) / n for layer, n in zip(layers.values(), counts, strict=True)]
    budget = round(target * sum(map(cost, layers.values())))
    if len(set(costs)) == 1:
        kept = keep_best(flat, math.floor(budget / costs[0] + 1e-9))
        gone = [int((~part).sum()) for part in kept.split(counts)]
    else:
        gone = _while_it_lasts(flat, counts, costs, budget)
    return {name: n / count for name, n, count in zip(layers, gone, counts, strict=True)}


def _while_it_lasts(flat: Tensor, counts: list[int], costs: list[float], budget: int) -> list[int]:
    """How many units of each layer go, lowest first, until one would pass the budget."""
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    # Descending and stable, then read backwards: among equals the first stay, as in each layer.
    order = flat.argsort(descending=True, stable=True).flip(0)
    spent = torch.tensor(costs, dtype=torch.float64)[owner[order]].cumsum(0)
    gone = owner[order[spent <= budget + 1e-6]]
    return [int(n) for n in torch.bincount(gone, minlength=len(counts))]
