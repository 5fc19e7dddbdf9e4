"""What an experiment says, arm by arm: each beside the ticket, and the ticket beside dense."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.row import TicketResult

_SURE = 2.0  # standard errors that a difference has to be from nothing


@dataclass(frozen=True)
class Reading:
    """One arm in one round, paired by seed; differences are of the metric, 0 to 1."""

    arm: str
    rewind: int
    round: int
    sparsity: float
    differences: tuple[float, ...]  # arm - ticket, of the ticket itself: ticket - dense

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.differences)

    @property
    def error(self) -> float | None:
        """The standard error of the mean; None for one seed, which cannot say."""
        if len(self.differences) < 2:
            return None
        return statistics.stdev(self.differences) / len(self.differences) ** 0.5

    @property
    def verdict(self) -> str:
        """`worse`, `better`, or `level` when the difference is within two standard errors.

        With one seed: `unsure`.
        """
        if self.error is None:
            return "unsure"
        if abs(self.mean) <= _SURE * self.error:
            return "level"
        return "better" if self.mean > 0 else "worse"

    @property
    def means(self) -> str:
        """What that says, for a class."""
        arm = ARMS[self.arm]
        if self.verdict == "unsure":
            return "One seed says little: add seeds."
        return arm.if_worse if self.verdict == "worse" else arm.if_level


def readings(
    rows: Sequence[TicketResult], number: int, *, early: bool = False, higher_is_better: bool = True
) -> list[Reading]:
    """Every arm that has round `number`, as far as its seeds have the other side too.

    `early` compares at the early stop instead of the end. For a metric that is better when lower
    differences change their sign, so more is always better.
    """
    sign = 1 if higher_is_better else -1
    found = {
        (row.arm, row.rewind, row.round, row.seed): row
        for row in rows
        if _value(row, early) is not None
    }
    shown: dict[tuple[str, int], list[tuple[TicketResult, float]]] = {}
    for (arm, rewind, at, seed), row in found.items():
        if at != number or not number or arm == "corrupted-finder":
            continue
        other = ("ticket", 0, 0, seed) if arm == "ticket" else ("ticket", rewind, number, seed)
        if other in found:
            both = _value(row, early), _value(found[other], early)
            assert both[0] is not None
            assert both[1] is not None
            shown.setdefault((arm, rewind), []).append((row, sign * (both[0] - both[1])))
    order = list(ARMS)
    return [
        Reading(arm, rewind, number, pairs[0][0].sparsity or 0.0, tuple(d for _, d in pairs))
        for (arm, rewind), pairs in sorted(
            shown.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
        )
    ]


def _value(row: TicketResult, early: bool) -> float | None:
    return row.early_value if early else row.value
