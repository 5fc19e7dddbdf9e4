"""The points of an experiment with moving masks: networks, and looks at them."""

from dataclasses import dataclass

from sparsity_core.dynamic.rule import UpdateRule


@dataclass(frozen=True)
class OneTraining:
    """One network."""

    seed: int
    rule: UpdateRule
    sparsity: float | None  # None: the rule learns it
    matched: UpdateRule | None  # whose final layer counts are the budget
    id: str


@dataclass(frozen=True)
class MovingPoint:
    """One look at a network."""

    training: OneTraining
    step: int
    id: str
