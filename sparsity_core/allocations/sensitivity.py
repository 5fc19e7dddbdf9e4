"""As sparse as a sensitivity sweep says that each layer can be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from sparsity_core.allocations.allocation import (
    ALLOCATIONS,
    Allocation,
    Budget,
    Layer,
    whole_weights,
)
from sparsity_core.errors import SparsityError
from sparsity_core.weights import check_sparsity

Point = tuple[float, float]  # sparsity, rise of the loss
Curve = tuple[Point, ...]


@dataclass(frozen=True)
class _Step:
    """A stretch of a layer's curve along which each further weight costs as much loss."""

    layer: str
    weights: float
    rise: float

    @property
    def price(self) -> float:
        """Loss a weight."""
        return self.rise / self.weights


@ALLOCATIONS.register("sensitivity")
@dataclass(frozen=True)
class Sensitivity(Allocation):
    """Every layer so sparse that one weight more would cost as much loss in each.

    `curves`: the rise of the loss by sparsity of each layer, pruned alone, as a sweep measured it;
    their lower convex hulls are followed from the cheapest stretch to the dearest. Assumes that
    the rises of single layers add up. With `loss_budget` (nats) they are followed until the rises
    add up to it, whatever the target. Source: Lagrange multipliers; cf. Shen et al. 2022, arXiv
    2110.10811.
    """

    curves: tuple[tuple[str, Curve], ...] = ()
    loss_budget: float | None = None

    def __post_init__(self) -> None:
        given = self.curves.items() if isinstance(self.curves, Mapping) else self.curves
        curves = tuple(
            (str(n), tuple((check_sparsity(s, f"{n}: sparsity"), float(r)) for s, r in curve))
            for n, curve in given
        )
        for name, curve in curves:
            if not all(math.isfinite(rise) for _, rise in curve):
                raise SparsityError(f"{name}: the rise of the loss is not finite; leave it out")
        object.__setattr__(self, "curves", curves)

    @property
    def budget(self) -> Budget:
        """Weights, unless the loss is what is budgeted."""
        return "weights" if self.loss_budget is None else None

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """Raises SparsityError for a layer without a curve, or curves that end too early."""
        curves = dict(self.curves)
        if unknown := [name for name in layers if not curves.get(name)]:
            raise SparsityError(
                f"sensitivity: no curve of {unknown[0]}; sweep its sensitivity first, or skip it"
            )
        steps = [s for name, layer in layers.items() for s in _steps(name, layer, curves[name])]
        steps.sort(key=lambda step: step.price)
        total = sum(layer.size for layer in layers.values())
        removed = dict.fromkeys(layers, 0.0)
        weights, loss = target * total, math.inf
        if self.loss_budget is not None:
            weights, loss = math.inf, self.loss_budget
        for step in steps:
            share = min(1.0, weights / step.weights, loss / step.rise if step.rise > 0 else 1.0)
            if share <= 0:
                break
            removed[step.layer] += share * step.weights
            weights -= share * step.weights
            loss -= share * step.rise
        if self.loss_budget is None and weights > 0.5:
            raise SparsityError(
                f"sensitivity: the curves end with {target - weights / total:.4g} of the weights "
                f"gone, asked for {target:.4g}; sweep to higher sparsities or ask for less"
            )
        gone = whole_weights(removed, round(sum(removed.values())))
        return {name: gone[name] / layer.size for name, layer in layers.items()}


def _steps(name: str, layer: Layer, curve: Curve) -> list[_Step]:
    """The lower convex hull of a curve from (0, 0), as stretches of rising price."""
    hull: list[Point] = []
    for point in sorted(({s: r for s, r in curve if s > 0} | {0.0: 0.0}).items()):
        while len(hull) > 1 and _above(hull[-1], hull[-2], point):
            hull.pop()
        hull.append(point)
    return [_Step(name, (s1 - s0) * layer.size, r1 - r0) for (s0, r0), (s1, r1) in pairwise(hull)]


def _above(
    middle: tuple[float, float], left: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Is the middle point on or above the line from left to right?"""
    slope = (right[1] - left[1]) / (right[0] - left[0])
    return middle[1] >= left[1] + slope * (middle[0] - left[0])
