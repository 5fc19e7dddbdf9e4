"""What a classifier does beyond its accuracy: classes, samples that flip, how far to trust it."""

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.trace import eval_mode

BINS = 15  # of confidence, as in Guo et al. 2017 (arXiv 1706.04599)
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says to each sample, on the CPU; both are (N,)."""

    predictions: Tensor
    confidences: Tensor  # the probability that it gives to its prediction


@dataclass(frozen=True)
class Flips:
    """Samples by what two models make of them."""

    samples: int
    lost: int  # right in the first only
    gained: int  # right in the second only
    other_errors: int  # wrong in both, in different ways

    @property
    def changed(self) -> float:
        """The share of samples with another prediction."""
        return (self.lost + self.gained + self.other_errors) / self.samples


@dataclass(frozen=True)
class Bin:
    """Samples whose confidence lies in one interval; an empty bin has neither mean nor share."""

    samples: int
    confidence: float | None  # the mean
    accuracy: float | None


def answers_of(
    model: nn.Module, split: Split, *, batch_size: int = 512, device: str = "cpu"
) -> Answers:
    """Predictions and confidences of a model, which is on `device`, for every sample.

    Outputs are logits with the classes on axis 1; what lies behind it counts as samples.
    """
    predictions, confidences = [], []
    with eval_mode(model), torch.no_grad():
        for inputs, _ in split.batches(batch_size):
            found = model(inputs.to(device)).softmax(1).max(1)
            predictions.append(found.indices.reshape(-1).cpu())
            confidences.append(found.values.reshape(-1).cpu())
    return Answers(torch.cat(predictions), torch.cat(confidences))


def class_accuracies(predictions: Tensor, targets: Tensor) -> list[float | None]:
    """The share of right answers among the samples of each class; None for an absent class."""
    right = predictions == targets
    own = [right[targets == label] for label in range(int(targets.max()) + 1)]
    return [part.double().mean().item() if len(part) else None for part in own]


def flips(first: Tensor, second: Tensor, targets: Tensor) -> Flips:
    """What becomes of the first model's predictions in the second."""
    if not len(first) == len(second) == len(targets):
        raise SparsityError(
            f"{len(first)}, {len(second)} and {len(targets)} answers: compare the same samples"
        )
    changed = first != second
    return Flips(
        samples=len(targets),
        lost=int((changed & (first == targets)).sum()),
        gained=int((changed & (second == targets)).sum()),
        other_errors=int((changed & (first != targets) & (second != targets)).sum()),
    )


def reliability(answers: Answers, targets: Tensor, bins: int = BINS) -> list[Bin]:
    """The reliability diagram: samples in `bins` equal intervals (low, high] of confidence."""
    right = (answers.predictions == targets).double()
    sure = answers.confidences.double()
    place = (sure * bins).ceil().long().clamp(1, bins) - 1
    found = []
    for number in range(bins):
        own = place == number
        count = int(own.sum())
        found.append(
            Bin(count, sure[own].mean().item(), right[own].mean().item())
            if count
            else Bin(0, None, None)
        )
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """ECE: the distance of accuracy from confidence, averaged over samples (Guo et al. 2017)."""
    gaps = [
        each.samples * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    ]
    return sum(gaps) / sum(each.samples for each in bins)


def columns(answers: Answers, targets: Tensor) -> dict[str, Any]:
    """A row's `calibration_error`, `class_values` and `reliability`; the last two are JSON."""
    bins = reliability(answers, targets)
    shares = class_accuracies(answers.predictions, targets)
    return {
        "calibration_error": calibration_error(bins),
        "class_values": json.dumps(_rounded(shares)),
        "reliability": json.dumps([_rounded(astuple(each)) for each in bins]),
    }


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(value, _DIGITS) for value in values]


def packed(predictions: Tensor) -> str:
    """Predictions as a short text; `unpacked` reads it."""
    content = predictions.numpy().astype("<u2").tobytes()
    return base64.b64encode(zlib.compress(content, 9)).decode()


def unpacked(text: str) -> Tensor:
    """Predictions from their text, (N,)."""
    content = zlib.decompress(base64.b64decode(text))
    return torch.from_numpy(np.frombuffer(content, "<u2").astype(np.int64))
