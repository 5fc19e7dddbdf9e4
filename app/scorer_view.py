"""Scores as numbers to draw: histograms, ranks, rank correlation. Knows no chart and no page."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

_BINS = 44  # at most
_DECADES = 9  # of a log axis; what lies below is counted in the first bar
_SPREAD = 30  # from which ratio of large to usual scores on a log axis is easier to read
_MOST = 20_000  # units that ranks are taken of


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of scores in bars (left, right, part, units), and the axis they are made for."""

    bars: pd.DataFrame
    axis: Literal["linear", "log", "symlog"]
    zeros: int
    negative: int
    ticks: list[float] = field(default_factory=list)
    constant: float = 1.0  # of the symlog axis
    zero: float = math.nan  # the middle of the bar of zeros on a log axis; NaN when there is none
    below: int = 0  # scores under the first bar's left edge, counted in it


def histogram(values: np.ndarray, chosen: np.ndarray) -> Histogram:
    """Kept and pruned units by their score, on the axis that shows most of them apart."""
    sizes = np.abs(values[values != 0])
    wide = len(sizes) > 2 and sizes.max() > _SPREAD * np.quantile(sizes, 0.05)
    if not wide:
        return _linear(values, chosen)
    if (values < 0).any():
        return _symlog(values, chosen, float(np.median(sizes)))
    return _log(values, chosen)


def cut(values: np.ndarray, chosen: np.ndarray) -> float | None:
    """The score that parts kept from pruned units; None where no single score does."""
    if chosen.all() or not chosen.any():
        return None
    lowest_kept = float(values[chosen].min()) + 0.0  # no minus zero
    return lowest_kept if float(values[~chosen].max()) <= lowest_kept else None


def sampled(count: int) -> np.ndarray:
    """The places of the units that ranks are taken of: all, or some that are always the same."""
    if count <= _MOST:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, _MOST, replace=False))


def ranks(values: np.ndarray) -> np.ndarray:
    """The share of units with a lower score, in per cent, 0 (lowest) to 100; ties share theirs."""
    found = pd.Series(values).rank(method="average").to_numpy() - 1
    return 100 * found / max(1, len(values) - 1)


def correlations(units: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Spearman's rank correlation of each two; NaN where all units of one are tied."""
    table = pd.DataFrame({kind: ranks(values) for kind, values in units.items()})
    return table.corr() if len(table) else table


def _linear(values: np.ndarray, chosen: np.ndarray) -> Histogram:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    bars = _counted(values, chosen, np.linspace(low, high, _bins(len(values)) + 1))
    return Histogram(bars, "linear", *_zeros_and_negative(values))


def _symlog(values: np.ndarray, chosen: np.ndarray, usual: float) -> Histogram:
    constant = 10.0 ** math.floor(math.log10(usual / 3))
    low, high = float(values.min()), float(values.max())
    ends = [math.copysign(math.log1p(abs(end) / constant), end) for end in (low, high)]
    inside = np.linspace(ends[0], ends[1], _bins(len(values)) + 1)
    bars = _counted(values, chosen, np.sign(inside) * np.expm1(np.abs(inside)) * constant)
    ticks = _signed_ticks(low, high, constant)
    return Histogram(bars, "symlog", *_zeros_and_negative(values), ticks, constant)


def _log(values: np.ndarray, chosen: np.ndarray) -> Histogram:
    positive = values > 0
    high = float(values.max())
    low = max(float(values[positive].min()), high * 10.0**-_DECADES)
    edges = np.geomspace(low, high, _bins(len(values)) + 1)
    below = int((values[positive] < low).sum())
    bars = _counted(np.maximum(values[positive], low), chosen[positive], edges)
    ticks, zero = _decades(low, high), math.nan
    if not positive.all():
        step = float(edges[1] / edges[0])
        zero = low / step**3
        at_zero = chosen[~positive]
        rows = pd.DataFrame({"part": ["kept", "pruned"]})
        rows["units"] = [int(at_zero.sum()), int((~at_zero).sum())]
        apart = rows.assign(left=zero / step**0.7, right=zero * step**0.7)
        bars = pd.concat([apart[apart["units"] > 0], bars], ignore_index=True)
        ticks = [zero, *(tick for tick in ticks if tick > low * step)]
    counts = _zeros_and_negative(values)
    return Histogram(bars, "log", *counts, ticks, zero=zero, below=below)


def _bins(count: int) -> int:
    """Few bars for few scores: each should hold some."""
    return max(6, min(_BINS, round(2 * math.sqrt(count))))


def _zeros_and_negative(values: np.ndarray) -> tuple[int, int]:
    return int((values == 0).sum()), int((values < 0).sum())


def _counted(values: np.ndarray, chosen: np.ndarray, edges: np.ndarray) -> pd.DataFrame:
    found = []
    for part, own in (("kept", values[chosen]), ("pruned", values[~chosen])):
        # Rounding must not lose the smallest and the largest.
        counts, _ = np.histogram(own.clip(edges[0], edges[-1]), edges)
        bars = pd.DataFrame({"left": edges[:-1], "right": edges[1:], "part": part, "units": counts})
        found.append(bars[bars["units"] > 0])
    return pd.concat(found, ignore_index=True)


def _decades(low: float, high: float) -> list[float]:
    """Round numbers for a log axis: powers of ten, or also 2 and 5 where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = max(1, math.ceil((last - first) / 6))
    digits = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [digit * 10.0**power for power in range(first, last + 1, step) for digit in digits]
    return [tick for tick in ticks if low <= tick <= high]


def _signed_ticks(low: float, high: float, constant: float) -> list[float]:
    """Zero and a few powers of ten on either side that is there."""
    largest = max(-low, high)
    top, first = math.floor(math.log10(largest)), round(math.log10(constant))
    step = max(1, math.ceil((top - first) / 2))
    sizes = [10.0**power for power in range(top, first, -step)]
    return sorted([0.0, *(s for s in sizes if s <= high), *(-s for s in sizes if -s >= low)])
