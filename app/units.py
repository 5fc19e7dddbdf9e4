"""The unit that a metric is shown in: per cent and points for shares, its own number otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sparsity_core.metrics import is_share


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


PER_CENT = Unit(100, "%", "drop (points)", ".2f", "+.2f", 2)
RAW = Unit(1, "", "change (+ is worse)", ".4g", "+.3g", 4)


def unit_of(metric: str) -> Unit:
    """The unit of a metric by its name."""
    return PER_CENT if is_share(metric) else RAW


def in_units(rows: Sequence[Any]) -> Unit:
    """The unit of rows that share their metric."""
    return unit_of(rows[0].metric)


def around_dense(table: pd.DataFrame) -> pd.DataFrame:
    """`low` and `high`: the drop's interval hung from the dense value, on the side that is worse.

    Which side that is the rows tell: a drop is positive when the value is worse.
    """
    rises = ((table["value"] - table["dense_value"]) * table["drop"]).sum() > 0
    low, high = ("drop_low", "drop_high") if rises else ("drop_high", "drop_low")
    sign = 1 if rises else -1
    dense = table["dense_value"]
    return pd.DataFrame({"low": dense + sign * table[low], "high": dense + sign * table[high]})
