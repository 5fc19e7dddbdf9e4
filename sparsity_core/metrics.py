"""What counts as good: one number a sample, whose mean over the samples is the result."""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.errors import NonFiniteError, SparsityError, unknown
from sparsity_core.losses import (
    IGNORED,
    PerSample,
    absolute_error,
    alike,
    cosine,
    cross_entropy,
    mean_of_known,
    next_token,
    squared_error,
)


@dataclass(frozen=True)
class Metric:
    """A number for each sample; its mean over the samples is the result.

    `of_mean` says what is shown of that mean, where it is not the mean itself; it must grow with
    it. `share`: lies between 0 and 1, and is shown in per cent.
    """

    name: str
    per_sample: PerSample
    higher_is_better: bool = True
    of_mean: Callable[[float], float] | None = None
    share: bool = True

    def shown(self, mean: float) -> float:
        """What the mean over the samples stands for."""
        return self.of_mean(mean) if self.of_mean else mean


def _correct(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float()


def _among_five(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape[1] <= 5:
        raise SparsityError(f"top-5 of {outputs.shape[1]} classes is always right; choose accuracy")
    return (outputs.topk(5, dim=1).indices == targets[:, None]).any(1).float()


def _right_labels(least: float) -> PerSample:
    """The share of a sample's labels that are right: there where the output is above `least`."""

    def per_sample(outputs: Tensor, targets: Tensor) -> Tensor:
        outputs, targets = alike(outputs, targets)
        return ((outputs > least) == (targets > 0.5)).float().mean(1)

    return per_sample


def _right_pixels(outputs: Tensor, targets: Tensor) -> Tensor:
    return mean_of_known((outputs.argmax(1) == targets).float(), targets)  # no class is IGNORED


def _overlap(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of each image: intersection over union, mean over the classes that its target has."""
    found, right = outputs.argmax(1).flatten(1), targets.flatten(1)
    found = found.masked_fill(right == IGNORED, IGNORED)
    classes = range(outputs.shape[1])
    both = [((found == c) & (right == c)).sum(1) for c in classes]
    either = [((found == c) | (right == c)).sum(1) for c in classes]
    there = torch.stack([(right == c).any(1) for c in classes], 1)
    ratios = torch.stack(both, 1) / torch.stack(either, 1).clamp(min=1)
    return (ratios * there).sum(1) / there.sum(1).clamp(min=1)


def _agrees(outputs: Tensor, dense: Tensor) -> Tensor:
    return (outputs.argmax(1) == dense.argmax(1)).float()


def _divergence(outputs: Tensor, dense: Tensor) -> Tensor:
    return F.kl_div(
        outputs.log_softmax(1), dense.log_softmax(1), reduction="none", log_target=True
    ).sum(1)


def _perplexity(nats: float) -> float:
    if nats > 700:
        raise NonFiniteError(f"a perplexity of e^{nats:.0f} is infinite for all purposes")
    return math.exp(nats)


ACCURACY = Metric("accuracy", _correct)
TOP_5 = Metric("top-5", _among_five)
LOSS = Metric("loss", cross_entropy, higher_is_better=False, share=False)
MSE = Metric("mse", squared_error, higher_is_better=False, share=False)
MAE = Metric("mae", absolute_error, higher_is_better=False, share=False)
PERPLEXITY = Metric("perplexity", next_token, False, _perplexity, share=False)
COSINE = Metric("cosine", cosine, share=False)
LABELS = Metric("label-accuracy", _right_labels(0))
LABELS_BY_PROBABILITY = Metric(LABELS.name, _right_labels(0.5))
PIXELS = Metric("pixel-accuracy", _right_pixels)
IOU = Metric("iou", _overlap)
AGREEMENT = Metric("agreement", _agrees)
KL = Metric("kl", _divergence, higher_is_better=False, share=False)


def r2(targets: Tensor) -> Metric:
    """1 - squared error / spread, the spread being that of `targets` (N, ...) around their mean.

    A fixed spread makes it a mean over samples, so that it has a paired interval like any metric.
    """
    spread = float((targets.double() - targets.double().mean(0)).square().mean())
    if not spread > 0:
        raise SparsityError("all targets are equal, so there is no R2; choose mse")

    def per_sample(outputs: Tensor, its: Tensor) -> Tensor:
        return 1 - squared_error(outputs, its) / spread

    return Metric("r2", per_sample, share=False)


METRICS = {
    metric.name: metric
    for metric in (
        *(ACCURACY, TOP_5, LOSS, MSE, MAE, PERPLEXITY, COSINE, AGREEMENT, KL),
        *(LABELS, PIXELS, IOU),
    )
}
_SAME = {"top-1": "accuracy", "top1": "accuracy", "top5": "top-5", "ppl": "perplexity"}


def metric_of(name: str, targets: Tensor | None = None) -> Metric:
    """The metric of a name, or what stands at `module:function`; `targets` are for r2.

    One's own is a function (outputs, targets) -> (N,), or a Metric. It counts as better when
    higher, and is no share, unless it has an attribute `higher_is_better` or `share` that says
    otherwise. A name with a colon imports and runs code.
    """
    if ":" in name:
        return _own(name)
    name = _SAME.get(name, name)
    if name == "r2" and targets is not None:
        return r2(targets)
    if name not in METRICS:
        raise unknown("metric", name, [*METRICS, "r2", "module:function"])
    return METRICS[name]


def is_share(name: str) -> bool:
    """Is the metric of a row shown in per cent? Metrics that tasks bring along are taken to be."""
    return METRICS[name].share if name in METRICS else name != "r2" and ":" not in name


def _own(reference: str) -> Metric:
    module_name, _, attribute = reference.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # a module may raise anything on import
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SparsityError(f"metric {reference}: could not be imported ({said})") from error
    if isinstance(found, Metric):
        return found
    if not callable(found):
        raise SparsityError(
            f"metric {reference}: is no function (outputs, targets) -> one number a sample"
        )

    def per_sample(outputs: Tensor, targets: Tensor) -> Tensor:
        values = found(outputs, targets)
        if not isinstance(values, Tensor) or values.shape != outputs.shape[:1]:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise SparsityError(
                f"metric {reference}: gave {shape} for {len(outputs)} samples; "
                "it must give one number a sample"
            )
        return values.float()

    higher = bool(getattr(found, "higher_is_better", True))
    return Metric(reference, per_sample, higher, share=bool(getattr(found, "share", False)))
