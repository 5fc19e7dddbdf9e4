"""A pruned model beside the dense one, on the same samples."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity_core.intervals import Interval, paired_difference
from sparsity_core.train import Evaluation
from sparsity_core.weights import mask_, sparsity_of


@dataclass(frozen=True)
class Comparison:
    """Metric and loss of both models; `drop` and `loss_rise` are positive when pruning hurts."""

    value: float
    dense_value: float
    drop: float
    drop_low: float
    drop_high: float
    loss: float
    dense_loss: float
    loss_rise: float
    loss_rise_low: float
    loss_rise_high: float
    samples: int


def compare(dense: Evaluation, pruned: Evaluation) -> Comparison:
    """Differences with paired 95 % intervals, which see only the samples that changed."""
    drop = _drop(dense, pruned)
    rise = paired_difference(pruned.losses, dense.losses)
    return Comparison(
        value=pruned.value,
        dense_value=dense.value,
        drop=drop.value,
        drop_low=drop.low,
        drop_high=drop.high,
        loss=pruned.loss,
        dense_loss=dense.loss,
        loss_rise=rise.value,
        loss_rise_low=rise.low,
        loss_rise_high=rise.high,
        samples=len(pruned.values),
    )


def _drop(dense: Evaluation, pruned: Evaluation) -> Interval:
    """How much worse the metric is, positive when it is worse, whichever way it counts."""
    better, worse = dense.values, pruned.values
    sign = 1 if dense.metric.higher_is_better else -1
    found = paired_difference(*((better, worse) if sign > 0 else (worse, better)))
    if dense.metric.of_mean is None:
        return found
    # The metric grows with the mean, so the ends of the interval may be carried over.
    mean = float(dense.values.double().mean())

    def shown(change: float) -> float:
        return sign * (dense.value - dense.metric.shown(mean - sign * change))

    return Interval(shown(found.value), shown(found.low), shown(found.high))


@contextmanager
def masked(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """The same model under masks while the context is open; every bit is restored after."""
    parameters = dict(model.named_parameters())
    saved = {name: parameters[name].detach().clone() for name in masks if name in parameters}
    mask_(model, masks)
    try:
        yield model
    finally:
        with torch.no_grad():
            for name, weight in saved.items():
                parameters[name].copy_(weight)


def sparsity_under(weight: Tensor, mask: Tensor) -> float:
    """The share of zeros in a weight under a mask of its shape; its own zeros count."""
    return sparsity_of((weight != 0) & mask.to(weight.device))


def removed_weights(weight: Tensor, mask: Tensor) -> int:
    """How many weights that were not zero a mask sets to zero; 0 means a no-op."""
    return int(((weight != 0) & ~mask.to(weight.device)).sum())
