"""95 % intervals: how far a measured number may be from the truth, given its samples."""

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

from torch import Tensor

NO_INTERVAL = "no interval from one sample"
_Z = NormalDist().inv_cdf(0.975)


class Interval(NamedTuple):
    """A mean with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float] | tuple[None, None]:
        """From where to where; None where it is without an end, as that of one sample is."""
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        return (self.low, self.high) if finite else (None, None)


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


@dataclass(frozen=True)
class Paired:
    """What is to know of the differences `before - after` over some samples.

    Those of several parts of the samples add up to those of all.
    """

    samples: int
    total: float
    squares: float  # of the differences from their mean, summed
    lost: int  # differences above 0
    won: int  # below
    binary: bool  # were all numbers 0 or 1?

    @classmethod
    def of(cls, before: Tensor, after: Tensor) -> "Paired":
        """Of two numbers for each sample: (N,) and (N,), N >= 1."""
        difference = before.double() - after.double()
        return cls(
            samples=len(difference),
            total=float(difference.sum()),
            squares=float((difference - difference.mean()).square().sum()),
            lost=int((difference > 0).sum()),
            won=int((difference < 0).sum()),
            binary=_is_binary(before) and _is_binary(after),
        )

    def __add__(self, other: "Paired") -> "Paired":
        """Of both together; squares as in Chan, Golub & LeVeque 1979."""
        samples = self.samples + other.samples
        apart = self.total / self.samples - other.total / other.samples
        between = apart**2 * self.samples * other.samples / samples
        return Paired(
            samples=samples,
            total=self.total + other.total,
            squares=self.squares + other.squares + between,
            lost=self.lost + other.lost,
            won=self.won + other.won,
            binary=self.binary and other.binary,
        )

    @property
    def interval(self) -> Interval:
        """The mean difference, with a paired 95 % interval; see `paired_difference`."""
        mean = self.total / self.samples
        if self.binary:
            n = self.samples + 2
            centre = (self.lost - self.won) / n
            changed = self.lost + self.won
            half = _Z * math.sqrt((changed + 1) - (self.lost - self.won) ** 2 / n) / n
            return Interval(mean, max(centre - half, -1.0), min(centre + half, 1.0))
        if self.samples < 2:
            return Interval(mean, -math.inf, math.inf)
        freedom = self.samples - 1
        half = _student(freedom) * math.sqrt(self.squares / freedom / self.samples)
        return Interval(mean, mean - half, mean + half)


def paired_difference(before: Tensor, after: Tensor) -> Interval:
    """Mean of `before - after` over the same samples, with a paired 95 % interval.

    For values that are only 0 or 1: Agresti & Min 2005 (half a pseudo-sample in each cell of the
    2 x 2 table), which stays wider than zero when no sample changed. Otherwise Student's t.
    Shapes: (N,) and (N,).
    """
    return Paired.of(before, after).interval


@cache
def _student(freedom: int) -> float:
    """Student's 97.5 % quantile; kept, since finding it takes 0.5 ms, longer than a small layer."""
    from scipy import special  # takes 0.2 s to load, scipy.stats a second

    return float(special.stdtrit(freedom, 0.975))


def _is_binary(values: Tensor) -> bool:
    return bool(((values == 0) | (values == 1)).all())
