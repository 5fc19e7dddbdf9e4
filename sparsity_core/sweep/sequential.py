"""Has enough been seen? A question about a drop, and where its answer stands after some samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.sweep.betting import certain, interval, peak
from sparsity_core.sweep.order import Numbers, Order

Verdict = Literal["undecided", "at most", "more than", "narrow"]

# The first round's samples, and each later sum of samples over the one before. A point is asked
# about only after a round, so it sees up to a quarter more samples than it needs, 1/8 on average.
FIRST, GROWTH = 64, 1.25


@dataclass(frozen=True)
class Question:
    """Is the drop more than `threshold`, or where does it lie, to an interval as wide as `width`?

    One of the two, in units of the metric (0.01 = one point of accuracy). With probability
    1 - `error` every answer is right and every interval holds the drop on all samples, at every
    moment and for all `points` of the sweep together: each point has error / points (Bonferroni;
    points share their samples, so nothing is known of how their errors hang together). `order` is
    the seed of the one random order in which all points see the samples.
    """

    threshold: float | None = None
    width: float | None = None
    error: float = 0.05
    points: int = 1
    order: int = 0

    def __post_init__(self) -> None:
        if (self.threshold is None) == (self.width is None):
            raise SparsityError("ask for a threshold or for a width, one of the two")
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise SparsityError(f"threshold must be -1 to 1, got {self.threshold}; 0.01 = 1 point")
        if self.width is not None and not 0 <= self.width <= 2:
            raise SparsityError(f"width must be 0 to 2, got {self.width}; 0.01 = 1 point")
        if not 0 < self.error < 1:
            raise SparsityError(f"error must be between 0 and 1, got {self.error}; usual is 0.05")
        if self.points < 1:
            raise SparsityError(f"points must be 1 or more, got {self.points}")

    @property
    def error_each(self) -> float:
        """The error rate of one point."""
        return self.error / self.points

    def __str__(self) -> str:
        if self.threshold is not None:
            return f"drop over {_points(self.threshold)}?"
        return f"drop to within {_points(self.width or 0)}"


@dataclass(frozen=True, eq=False)
class Standing:
    """What is known of one point's drop after the samples seen so far."""

    question: Question
    order: Order  # of all samples
    seen: Numbers = field(default_factory=lambda: np.empty(0))  # dense minus pruned, in order
    dense: float | None = None  # the dense metric on all samples: no drop is larger, None = unknown

    def after(self, differences: Tensor | Sequence[float]) -> "Standing":
        """Where it stands after further samples, in their order; numbers in -1..1.

        Raises SparsityError for other numbers, or for more of them than there are samples.
        """
        more = torch.as_tensor(differences).double().cpu().numpy()
        if not (np.abs(more) <= 1).all():
            raise SparsityError("paired differences must be -1 to 1; scale the metric to 0..1")
        seen = np.concatenate([self.seen, more])
        if len(seen) > len(self.order):
            raise SparsityError(f"{len(seen)} samples seen of {len(self.order)}; count each once")
        return replace(self, seen=seen)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The drop on all samples lies here, at the question's error rate; exact at the end."""
        each = self.question.error_each
        low, high = interval(self.seen, self.order, each, first=self.question.threshold)
        if self.dense is None:
            return low, high
        least, most = self.dense - 1, self.dense  # for the pruned metric lies between 0 and 1
        return min(max(low, least), most), max(min(high, most), least)

    @property
    def drop(self) -> float:
        """The estimate of the drop on all samples: unbiased, then moved into the interval."""
        low, high = self.interval
        return min(max(self.order.mean(self.seen), low), high)

    @cached_property
    def verdict(self) -> Verdict:
        """The answer: `at most` or `more than` the threshold, or `narrow` as the width asked."""
        threshold, width = self.question.threshold, self.question.width
        if threshold is None:
            low, high = self.interval
            return "narrow" if high - low <= (width or 0) else "undecided"
        low, high = certain(self.seen, len(self.order))
        if low > threshold or (high > threshold and self._rich(threshold, above=True)):
            return "more than"
        if high <= threshold or self._rich(threshold, above=False):
            return "at most"
        return "undecided"

    @property
    def settled(self) -> bool:
        """Is there an answer? Always when all samples were seen: then it is exact."""
        return self.verdict != "undecided"

    def __str__(self) -> str:
        low, high = self.interval
        answer = {
            "undecided": "not settled yet",
            "at most": "no",
            "more than": "yes",
            "narrow": "done",
        }[self.verdict]
        if len(self.seen) == len(self.order):
            return f"{self.question} {answer}: exact, all {len(self.order)} samples seen"
        seen = f"{len(self.seen)} of {len(self.order)} samples"
        risk = f"{100 * self.question.error:g} % risk that any of {self.question.points} is wrong"
        return f"{self.question} {answer}: {100 * low:.2f} to {100 * high:.2f}, {seen}; {risk}"

    def _rich(self, claim: float, above: bool) -> bool:
        return peak(self.seen, self.order, claim, above) >= 2 / self.question.error_each


def rounds(population: int) -> list[slice]:
    """The samples of each round, in the random order: few at first, then a quarter more in all.

    Always a multiple of the first few, the last apart: operators are compiled for each number that
    is new, and a round of a few takes as long as one of many.
    """
    ends = [min(FIRST, population)]
    while ends[-1] < population:
        more = max(round((GROWTH - 1) * ends[-1] / FIRST), 1) * FIRST
        ends.append(min(ends[-1] + more, population))
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _points(share: float) -> str:
    number = f"{100 * share:.4g}"
    return f"{number} point{'' if number == '1' else 's'}"
