"""Soft thresholds that are learned, one a layer: STR and AutoSparse."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.dynamic.forward import ForwardRule
from sparsity_core.dynamic.rule import RULES, Clock
from sparsity_core.errors import SparsityError, unknown

_LOW, _HIGH = -6.0, 6.0  # where the sigmoid schedule begins and ends


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# Shares of the first alpha by the share of the time that is over.
ALPHAS: dict[str, Callable[[float], float]] = {
    "none": lambda done: 0.0,  # noqa: ARG005
    "constant": lambda done: 1.0,  # noqa: ARG005
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "sigmoid": lambda done: 1 - _sigmoid(_LOW + (_HIGH - _LOW) * done),
    "sigmoid-cosine": lambda done: max(ALPHAS["sigmoid"](done), ALPHAS["cosine"](done)),
}


@RULES.register("str")
@dataclass(frozen=True)
class SoftThreshold(ForwardRule):
    """Soft threshold reparametrisation: sign(w) relu(|w| - sigmoid(s)), one s learned a layer.

    Weight decay reaches s as well and is what drives it up from `initial`; so sparsity is an
    outcome. For more of it raise the training's weight decay: digits-mlp (800 steps, rate 0.1) came
    to 14 % with 1e-4, 45 % with 3e-3, 87 % with 1e-2; too much takes all weights, as 1e-2 does on
    digits-lenet. The final network has the shrunk weights. Source: Kusupati et al. 2020, arXiv
    2002.03231.
    """

    learns_sparsity: ClassVar[bool] = True
    learned_decays = True
    initial: float = -5.0

    def alpha(self, clock: Clock) -> float:  # noqa: ARG002
        """The slope of relu below zero, in the backward pass."""
        return 0.0

    def learned(self, weight: Tensor) -> Tensor:
        """s, a scalar."""
        return torch.full((), self.initial, device=weight.device)

    def used(self, weight: Tensor, mask: Tensor, learned: Tensor | None) -> Tensor:  # noqa: ARG002
        """Weights shrunk by the threshold, zero below it."""
        assert learned is not None
        return weight.sign() * (weight.abs() - learned.sigmoid()).relu()

    def gradients(
        self,
        gradient: Tensor,
        weight: Tensor,
        mask: Tensor,  # noqa: ARG002
        learned: Tensor | None,
        clock: Clock,
    ) -> tuple[Tensor, Tensor]:
        """Through the threshold, with a slope of alpha where it gave zero."""
        assert learned is not None
        threshold = learned.sigmoid()
        slope = torch.where(weight.abs() > threshold, 1.0, self.alpha(clock))
        passed = gradient * slope
        by_threshold = -(passed * weight.sign()).sum()
        return passed, by_threshold * threshold * (1 - threshold)


@RULES.register("autosparse")
@dataclass(frozen=True)
class AutoSparse(SoftThreshold):
    """STR with gradient annealing: below the threshold gradients pass times alpha, down to 0.

    With alpha 0 weights that are gone cannot come back, with a constant one sparsity stays low.
    `schedule` is one of ALPHAS. A re-implementation from the paper's abstract: there is no public
    code, and alpha 0.75 and the schedule are unverified. Source: Kundu et al. 2023, arXiv
    2304.06941.
    """

    first_alpha: float = 0.75
    schedule: str = "sigmoid-cosine"
    until: float = 0.75  # share of the training, from which alpha is 0

    def __post_init__(self) -> None:
        if self.schedule not in ALPHAS:
            raise unknown("alpha schedule", self.schedule, ALPHAS)
        if not 0 <= self.first_alpha <= 1 or not 0 < self.until <= 1:
            raise SparsityError(
                "autosparse: first_alpha must be from 0 to 1 and until more than 0 and up to 1, "
                f"got {self.first_alpha!r} and {self.until!r}"
            )

    def alpha(self, clock: Clock) -> float:
        """Annealed; 0 from `until` on, but for a constant one."""
        done = clock.share / self.until
        if done >= 1 and self.schedule != "constant":
            return 0.0
        return self.first_alpha * ALPHAS[self.schedule](min(done, 1.0))

    def training_macs(self, live: float, dense: float, clock: Clock) -> float:
        """Sparse in all three products once alpha is 0."""
        return 3 * live if self.alpha(clock) == 0 else 2 * live + dense
