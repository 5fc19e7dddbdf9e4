"""Memory-economic sparse training: prune to a bound, grow at random to another, in stages."""

from dataclasses import dataclass

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
from sparsity_core.selection import count_pruned
from sparsity_core.weights import Masks, Weights


@RULES.register("mest")
@dataclass(frozen=True)
class Mest(UpdateRule):
    """Prune by |w| + gradient x |dL/dw| to a lower bound, grow random zeros to an upper one.

    Elastic mutation (EM): the upper bound is the target, so memory never exceeds it, and the lower
    is `extra` sparser, stage by stage. With `soft` (EM&S) the lower bound is the target and the
    upper `extra` denser until the last stage, in which both are the target and masks stand still.
    Source: Yuan et al. 2021, arXiv 2110.14032, with the bounds of its README.
    """

    every: int = 0  # steps; 0 = five epochs
    soft: bool = False
    gradient: float = 0.0  # lambda; the code's default leaves the gradient out
    extra: tuple[float, ...] = (0.02, 0.01, 0.0)  # sparsity, by stage
    stages: tuple[float, ...] = (90 / 160, 120 / 160)  # shares of the training at which they end

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra", tuple(self.extra))
        object.__setattr__(self, "stages", tuple(self.stages))
        if len(self.extra) != len(self.stages) + 1 or self.extra[-1] != 0:
            raise SparsityError(
                "mest: extra needs one number a stage, the last 0, and stages one fewer; got "
                f"{self.extra} and {self.stages}"
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
        sparsity, extra = 1 - kept / size, self.extra[stage]
        if self.soft:
            return kept, max(kept, size - count_pruned(size, max(0.0, sparsity - extra)))
        return min(kept, size - count_pruned(size, min(1.0, sparsity + extra))), kept

    def first(self, weights: Weights, kept: Counts, seed: int) -> Masks:
        """As many as the upper bound of the first stage, anywhere."""
        begin = Clock(0, 1_000_000, 1)
        return {
            name: drawn(
                anywhere,
                self.bounds(anywhere.numel(), kept[name], begin)[1] if kept[name] else 0,
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
            if not state.kept[name]:
                masks[name] = mask
                continue
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
