"""Memory-economic sparse training: prune to a bound, grow at random to another, in stages."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.dynamic.exchange import drawn, highest
from sparsity_core.dynamic.rule import (
    RULES,
    Clock,
    Counts,
    Report,
    State,
    UpdateRule,
    all_live,
    check_all_finite,
    generator_for,
)
from sparsity_core.errors import SparsityError
from sparsity_core.weights import Masks, Weights


@RULES.register("mest")
@dataclass(frozen=True)
class Mest(UpdateRule):
    """Prune by |w| + gradient x |dL/dw| to a lower bound, grow random zeros to an upper one.

    Elastic mutation (EM): the upper bound is the target, so memory never exceeds it, and the lower
    has `extra` fewer weights, stage by stage. With `soft` (EM&S) the lower bound is the target and
    the upper has `extra` more until the last stage, in which both are the target and masks stand
    still. `extra` is a share of the target's live weights: at 90 % sparsity 0.2 is the 0.02 of the
    paper's bounds, which near 100 % would leave nothing. Source: Yuan et al. 2021, arXiv
    2110.14032, with the bounds of its README.
    """

    layerwise: ClassVar[bool] = True
    every: int = 0  # steps; 0 = five epochs
    soft: bool = False
    gradient: float = 0.0  # lambda; the code's default leaves the gradient out
    extra: tuple[float, ...] = (0.2, 0.1, 0.0)  # by stage
    stages: tuple[float, ...] = (90 / 160, 120 / 160)  # shares of the training at which they end

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra", tuple(self.extra))
        object.__setattr__(self, "stages", tuple(self.stages))
        shares = all(0 <= share <= 1 for share in self.extra)
        if len(self.extra) != len(self.stages) + 1 or self.extra[-1] != 0 or not shares:
            raise SparsityError(
                "mest: extra needs a share from 0 to 1 for each stage, the last 0, and stages one "
                f"fewer; got {self.extra} and {self.stages}"
            )
        if self.gradient < 0 or self.every < 0:
            raise SparsityError("mest: gradient and every must be 0 or more")

    @property
    def needs_gradients(self) -> bool:
        """When they count for importance."""
        return self.gradient > 0

    def due(self, clock: Clock) -> bool:
        """Every so often, and when a stage ends; never in the last stage."""
        ends = [round(share * clock.steps) for share in self.stages]
        if clock.step == 0 or clock.step > ends[-1]:
            return False
        return clock.step in ends or clock.step % (self.every or 5 * clock.epoch) == 0

    def bounds(self, size: int, kept: int, clock: Clock) -> tuple[int, int]:
        """How many weights a layer keeps after pruning and after growing."""
        stage = sum(clock.step >= round(share * clock.steps) for share in self.stages)
        extra = round(self.extra[stage] * kept)
        return (kept, min(kept + extra, size)) if self.soft else (kept - extra, kept)

    def first(self, weights: Weights, kept: Counts, seed: int) -> Masks:
        """As many as the upper bound of the first stage, anywhere."""
        begin = Clock(0, 1_000_000, 1)
        return {
            name: drawn(
                anywhere,
                self.bounds(anywhere.numel(), kept[name], begin)[1],
                generator_for(seed, 0, name),
            )
            for name, anywhere in all_live(weights).items()
        }

    def update(self, state: State) -> tuple[Masks, Report]:
        """Each layer ends at its upper bound."""
        check_all_finite(state.weights, "weights")
        check_all_finite(state.gradients, "gradients")
        masks = {}
        for name, mask in state.masks.items():
            lower, upper = self.bounds(mask.numel(), state.kept[name], state.clock)
            score = importance(state.weights[name], state.gradients.get(name), self.gradient)
            left = highest(score, mask, min(lower, int(mask.sum())))
            grown = drawn(~left, upper - int(left.sum()), state.generator(name))
            masks[name] = left | grown
        return masks, Report()


def importance(weight: Tensor, gradient: Tensor | None, share: float) -> Tensor:
    """|w| + share x |dL/dw|."""
    if gradient is None or not share:
        return weight.abs()
    return torch.add(weight.abs(), gradient.abs(), alpha=share)
