"""The controls: no mask at all, and one that never moves."""

from dataclasses import dataclass
from typing import ClassVar

from sparsity_core.dynamic.rule import (
    RULES,
    Clock,
    Counts,
    Report,
    State,
    UpdateRule,
    all_live,
)
from sparsity_core.weights import Masks, Weights


@dataclass(frozen=True)
class _Still(UpdateRule):
    def due(self, clock: Clock) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def update(self, state: State) -> tuple[Masks, Report]:
        """The masks as they are."""
        return dict(state.masks), Report()


@RULES.register("dense")
@dataclass(frozen=True)
class Dense(_Still):
    """No mask: what sparse training is compared with from above, whatever sparsity is asked for."""

    def first(self, weights: Weights, kept: Counts, seed: int) -> Masks:  # noqa: ARG002
        """Everything lives."""
        return all_live(weights)


@RULES.register("static")
@dataclass(frozen=True)
class Static(_Still):
    """A random mask that never moves: what moving has to beat."""

    layerwise: ClassVar[bool] = True
