"""In how many rounds a sparsity is reached. To add one: a frozen dataclass here, registered."""

from dataclasses import dataclass
from typing import Protocol

from sparsity_core.errors import SparsityError
from sparsity_core.registry import Registry


class Schedule(Protocol):
    """Targets of the rounds."""

    def targets(self, sparsity: float) -> list[float]:
        """Sparsities of the whole tensor, one a round, never falling, ending with `sparsity`."""


SCHEDULES: Registry[Schedule] = Registry("schedule")


@SCHEDULES.register("one-shot")
@dataclass(frozen=True)
class OneShot:
    """Everything at once."""

    def targets(self, sparsity: float) -> list[float]:
        """One round."""
        return [sparsity]


@SCHEDULES.register("geometric")
@dataclass(frozen=True)
class Geometric:
    """Each round keeps the same share of what is left: kept_k = (1 - sparsity)^(k / rounds).

    Iterative magnitude pruning (Han et al. 2015, arXiv 1506.02626; Frankle & Carbin 2019, arXiv
    1803.03635).
    """

    rounds: int = 5

    def __post_init__(self) -> None:
        _check_rounds("geometric", self.rounds)

    def targets(self, sparsity: float) -> list[float]:
        """Straight to 1 when everything is to go: no share of the rest ever reaches nothing."""
        if sparsity == 1:
            return [1.0]
        steps = range(1, self.rounds)
        return [*(1 - (1 - sparsity) ** (k / self.rounds) for k in steps), sparsity]


@SCHEDULES.register("synflow-exponential")
@dataclass(frozen=True)
class SynFlowExponential(Geometric):
    """The geometric schedule in the many rounds that SynFlow takes: kept_k = kept^(k / 100).

    Few rounds, or even steps, empty layers as one shot does. Source: Tanaka et al. 2020, arXiv
    2006.05467.
    """

    rounds: int = 100


@SCHEDULES.register("cubic")
@dataclass(frozen=True)
class Cubic:
    """Fast at first, slow at the end: s_k = s + (s_0 - s)(1 - k / rounds)^3 with s_0 = 0.

    Gradual magnitude pruning (Zhu & Gupta 2017, arXiv 1710.01878).
    """

    rounds: int = 5

    def __post_init__(self) -> None:
        _check_rounds("cubic", self.rounds)

    def targets(self, sparsity: float) -> list[float]:
        """The first round is already above zero, the last is `sparsity` itself."""
        steps = range(1, self.rounds)
        return [*(sparsity * (1 - (1 - k / self.rounds) ** 3) for k in steps), sparsity]


@SCHEDULES.register("linear")
@dataclass(frozen=True)
class Linear:
    """The same step each round: s_k = s k / rounds."""

    rounds: int = 5

    def __post_init__(self) -> None:
        _check_rounds("linear", self.rounds)

    def targets(self, sparsity: float) -> list[float]:
        """Evenly spaced, the last is `sparsity` itself."""
        return [*(sparsity * k / self.rounds for k in range(1, self.rounds)), sparsity]


def _check_rounds(kind: str, rounds: int) -> None:
    if rounds < 1:
        raise SparsityError(f"{kind}: rounds must be 1 or more, got {rounds}")
