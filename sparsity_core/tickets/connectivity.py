"""Linear mode connectivity: what the error does on the straight line between two trainings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity_core.copied import copied
from sparsity_core.task import ACCURACY, Metric
from sparsity_core.train import Evaluation

STABLE = 0.02  # a barrier below it counts as none (Frankle et al. 2020, arXiv 1912.05671)
POINTS = 30  # on the line, both ends included


@dataclass(frozen=True)
class Line:
    """The metric at evenly spaced points from one model to the other."""

    values: tuple[float, ...]
    higher_is_better: bool = True

    @property
    def barrier(self) -> float:
        """How much worse the worst point is than the mean of both ends.

        max over the line of E(a) - (E(0) + E(1)) / 2, E the error (Frankle et al. 2020).
        """
        ends = (self.values[0] + self.values[-1]) / 2
        worst = min(self.values) if self.higher_is_better else max(self.values)
        return ends - worst if self.higher_is_better else worst - ends

    @property
    def stable(self) -> bool:
        """Is the barrier below 2 %?"""
        return self.barrier < STABLE


def between(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """(1 - share) of one state and `share` of the other; what is not a float comes from the first.

    Statistics of batch normalisation are mixed as weights are, and then fit neither.
    """
    return {
        name: torch.lerp(value, other[name].to(value.device), share)
        if value.is_floating_point()
        else value
        for name, value in one.items()
    }


def line_between(
    model: nn.Module,
    one: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    look: Callable[[nn.Module], Evaluation],
    metric: Metric = ACCURACY,
    points: int = POINTS,
    mend_: Callable[[nn.Module], object] | None = None,
) -> Line:
    """Look at the states on the line between two states of a model; the model is not changed.

    `mend_` may change each mixed state before the look, such as by measuring statistics anew.
    """
    walker = copied(model)
    values = []
    for i in range(points):
        walker.load_state_dict(between(one, other, i / (points - 1)))
        if mend_:
            mend_(walker)
        values.append(look(walker).value)
    return Line(tuple(values), metric.higher_is_better)
