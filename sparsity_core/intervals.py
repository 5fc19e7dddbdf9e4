"""95 % intervals: how far a measured number may be from the truth, given its samples."""

import math
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

from scipy import special  # scipy.stats takes a second to load
from torch import Tensor

_Z = NormalDist().inv_cdf(0.975)


class Interval(NamedTuple):
    """A mean with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def proportion(successes: int, samples: int) -> Interval:
    """A share of successes with Wilson's interval.

    Where a share p at the bound would be _Z standard deviations sqrt(p (1 - p) / n) from the one
    seen (Wilson 1927).
    """
    share, z2 = successes / samples, _Z**2 / samples
    centre = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    low = 0.0 if successes == 0 else max(centre - half, 0.0)
    high = 1.0 if successes == samples else min(centre + half, 1.0)
    return Interval(share, low, high)


def paired_difference(before: Tensor, after: Tensor) -> Interval:
    """Mean of `before - after` over the same samples, with a paired 95 % interval.

    For values that are only 0 or 1: Agresti & Min 2005 (half a pseudo-sample in each cell of the
    2 x 2 table), which stays wider than zero when no sample changed. Otherwise Student's t.
    Shapes: (N,) and (N,).
    """
    difference = before.double() - after.double()
    samples = len(difference)
    mean = float(difference.mean())
    if _is_binary(before) and _is_binary(after):
        lost, won = int((difference > 0).sum()), int((difference < 0).sum())
        n = samples + 2
        centre = (lost - won) / n
        half = _Z * math.sqrt((lost + won + 1) - (lost - won) ** 2 / n) / n
        return Interval(mean, max(centre - half, -1.0), min(centre + half, 1.0))
    if samples < 2:
        return Interval(mean, -math.inf, math.inf)
    half = float(_student(samples - 1) * difference.std() / math.sqrt(samples))
    return Interval(mean, mean - half, mean + half)


@cache
def _student(freedom: int) -> float:
    """Student's 97.5 % quantile; kept, since finding it takes 0.5 ms, longer than a small layer."""
    return float(special.stdtrit(freedom, 0.975))


def _is_binary(values: Tensor) -> bool:
    return bool(((values == 0) | (values == 1)).all())
