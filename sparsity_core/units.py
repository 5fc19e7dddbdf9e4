"""The unit that a metric is shown in: per cent and points for shares, its own number otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparsity_core.intervals import NO_INTERVAL
from sparsity_core.losses import (
    PerSample,
    cosine_distance,
    cross_entropy,
    logit_cross_entropy,
    next_token,
    own_answer,
    pixel_cross_entropy,
    probability_cross_entropy,
    squared_error,
)
from sparsity_core.metrics import is_share

if TYPE_CHECKING:
    import pandas as pd

# What the mean of a loss is counted in.
_LOSSES: dict[PerSample, str] = {
    cross_entropy: "nats",
    next_token: "nats",
    own_answer: "nats",
    logit_cross_entropy: "nats",
    probability_cross_entropy: "nats",
    pixel_cross_entropy: "nats",
    squared_error: "squared error",
    cosine_distance: "1 - cosine",
}


@dataclass(frozen=True)
class Unit:
    """How the numbers of a metric are shown; `value` and `signed` are formats of d3 and Python."""

    scale: int
    name: str
    drop: str
    value: str
    signed: str
    precision: int

    def title(self, of: str, *rest: str) -> str:
        """`accuracy (%, 500 test samples)`, `mse (500 test samples)` or `mse`."""
        said = ", ".join(filter(None, (self.name, *rest)))
        return f"{of} ({said})" if said else of

    def said(self, value: float) -> str:
        """A value in words: `97.20%` or `257.5`."""
        return f"{self.scale * value:{self.value}}{self.name}"

    def change(self, by: float) -> str:
        """A difference of values in words: `+1.20 points` or `+0.5`."""
        return f"{self.scale * by:{self.signed}}{' points' if self.scale == 100 else ''}"

    def interval(self, low: float | None, high: float | None) -> str:
        """Where a difference lies, in words; both bounds are None where one sample has none."""
        if low is None or high is None:
            return NO_INTERVAL
        return f"paired 95 % interval {self.change(low)} to {self.change(high)}"


PER_CENT = Unit(100, "%", "drop (points)", ".2f", "+.2f", 2)
RAW = Unit(1, "", "change (+ is worse)", ".4g", "+.3g", 4)


def unit_of(metric: str) -> Unit:
    """The unit of a metric by its name."""
    return PER_CENT if is_share(metric) else RAW


def loss_in(loss: PerSample) -> str:
    """What a task's loss is counted in."""
    return _LOSSES.get(loss, "the task's own loss")


def in_units(rows: Sequence[Any]) -> Unit:
    """The unit of rows that share their metric."""
    return unit_of(rows[0].metric)


def around_dense(table: "pd.DataFrame") -> "pd.DataFrame":
    """`low` and `high`: the drop's interval hung from the dense value, on the worse side."""
    sign = worse_is(table)
    low, high = ("drop_low", "drop_high") if sign > 0 else ("drop_high", "drop_low")
    dense, found = table["dense_value"], table[[low, high]].astype(float)  # also all None
    return table[[]].assign(low=dense + sign * found[low], high=dense + sign * found[high])


def worse_is(table: "pd.DataFrame") -> int:
    """1 when a higher value is worse, else -1; as rows tell, whose drop is positive when worse."""
    return 1 if ((table["value"] - table["dense_value"]) * table["drop"]).sum() > 0 else -1
