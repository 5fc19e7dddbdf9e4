"""When masks move, and by how much: what rules of dropping and growing share."""

import math
from dataclasses import dataclass

from sparsity_core.dynamic.rule import Clock, UpdateRule
from sparsity_core.errors import SparsityError


def cosine_share(first: float, step: int, end: int) -> float:
    """first / 2 (1 + cos(pi step / end)): the share that moves, from `first` down to 0 at `end`."""
    return first / 2 * (1 + math.cos(math.pi * min(step / end, 1.0)))


@dataclass(frozen=True)
class Periodic(UpdateRule):
    """Every so many steps (0 = once an epoch), never before the first, until a share of training.

    No update is made at the end or after it.
    """

    every: int = 100
    until: float = 0.75

    def __post_init__(self) -> None:
        if self.every < 0 or not 0 <= self.until <= 1:
            raise SparsityError(
                f"every must be 0 or more steps and until a share from 0 to 1, got {self.every} "
                f"and {self.until:g}"
            )

    def due(self, clock: Clock) -> bool:
        """At multiples of `every` before the end."""
        return 0 < clock.step < self.end(clock) and clock.step % self.period(clock) == 0

    def period(self, clock: Clock) -> int:
        """Steps between two updates."""
        return self.every or clock.epoch

    def end(self, clock: Clock) -> int:
        """The step from which masks stand still."""
        return round(self.until * clock.steps)


@dataclass(frozen=True)
class Exchanging(Periodic):
    """Drops a share of the live weights, which falls along a cosine to 0, and grows as many."""

    drop: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.drop <= 1:
            raise SparsityError(f"drop must be a share from 0 to 1, got {self.drop!r}")

    def share(self, clock: Clock) -> float:
        """Of the live weights that move at this step."""
        return cosine_share(self.drop, clock.step, self.end(clock))
