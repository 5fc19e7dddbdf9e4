"""A pruned model beside the dense one, on the same samples."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from sparsity_core.intervals import Interval, Paired
from sparsity_core.metrics import ACCURACY, Metric
from sparsity_core.train import Evaluation
from sparsity_core.weights import sparsity_of


@dataclass(frozen=True)
class Comparison:
    """Metric and loss of both models; `drop` and `loss_rise` are positive when pruning hurts.

    Bounds are those of paired 95 % intervals, None where one sample has none.
    """

    value: float
    dense_value: float
    drop: float
    drop_low: float | None
    drop_high: float | None
    loss: float
    dense_loss: float
    loss_rise: float
    loss_rise_low: float | None
    loss_rise_high: float | None
    samples: int


@dataclass(frozen=True)
class Tally:
    """What a comparison is made from: sums over samples, so that those of several parts add up."""

    value: float
    dense_value: float
    loss: float
    dense_loss: float
    drop: Paired  # of the metric, above 0 where pruning hurts
    rise: Paired  # of the loss

    @classmethod
    def of(cls, dense: Evaluation, pruned: Evaluation) -> "Tally":
        """Of both models on the same samples, at least one."""
        better, worse = dense.values, pruned.values
        if not dense.metric.higher_is_better:
            better, worse = worse, better
        return cls(
            value=float(pruned.values.double().sum()),
            dense_value=float(dense.values.double().sum()),
            loss=float(pruned.losses.double().sum()),
            dense_loss=float(dense.losses.double().sum()),
            drop=Paired.of(better, worse),
            rise=Paired.of(pruned.losses, dense.losses),
        )

    def __add__(self, other: "Tally") -> "Tally":
        """Of the samples of both."""
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def comparison(self, metric: Metric = ACCURACY) -> Comparison:
        """Differences with paired 95 % intervals, which see only the samples that changed.

        The metric matters where it shows something else than its mean (`of_mean`).
        """
        samples = self.drop.samples
        drop, rise = self._drop(metric), self.rise.interval
        (drop_low, drop_high), (rise_low, rise_high) = drop.bounds, rise.bounds
        return Comparison(
            value=metric.shown(self.value / samples),
            dense_value=metric.shown(self.dense_value / samples),
            drop=drop.value,
            drop_low=drop_low,
            drop_high=drop_high,
            loss=self.loss / samples,
            dense_loss=self.dense_loss / samples,
            loss_rise=rise.value,
            loss_rise_low=rise_low,
            loss_rise_high=rise_high,
            samples=samples,
        )

    def _drop(self, metric: Metric) -> Interval:
        """How much worse the metric is, positive when it is worse, whichever way it counts."""
        found = self.drop.interval
        if metric.of_mean is None:
            return found
        # The metric grows with the mean, so the ends of the interval may be carried over.
        sign = 1 if metric.higher_is_better else -1
        mean = self.dense_value / self.drop.samples

        def shown(change: float) -> float:
            return sign * (metric.shown(mean) - metric.shown(mean - sign * change))

        return Interval(shown(found.value), shown(found.low), shown(found.high))


def compare(dense: Evaluation, pruned: Evaluation) -> Comparison:
    """Differences with paired 95 % intervals, which see only the samples that changed."""
    return Tally.of(dense, pruned).comparison(dense.metric)


def lacks_interval(rows: Iterable[Any]) -> bool:
    """Has a row a drop without an interval? So has one sample, of a metric that is not 0 or 1."""
    return any(row.drop is not None and row.drop_low is None for row in rows)


def sparsity_under(weight: Tensor, mask: Tensor) -> float:
    """The share of zeros in a weight under a mask of its shape; its own zeros count."""
    return sparsity_of((weight != 0) & mask.to(weight.device))


def removed_weights(weight: Tensor, mask: Tensor) -> int:
    """How many weights that were not zero a mask sets to zero; 0 means a no-op."""
    return int(((weight != 0) & ~mask.to(weight.device)).sum())
