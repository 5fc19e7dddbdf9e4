"""What kind of task a model and its targets make: what is lost, and what counts as good."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.losses import (
    IGNORED,
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
from sparsity_core.metrics import (
    ACCURACY,
    AGREEMENT,
    COSINE,
    IOU,
    KL,
    LABELS,
    LABELS_BY_PROBABILITY,
    LOSS,
    MAE,
    MSE,
    PERPLEXITY,
    PIXELS,
    TOP_5,
    Metric,
    metric_of,
)

_VOID = 255  # what masks of pixels hold where nobody said what is there


@dataclass(frozen=True)
class Kind:
    """Its loss, and the metrics that can be asked for; the first is taken by itself."""

    name: str
    loss: PerSample
    metrics: tuple[Metric, ...]

    @property
    def names(self) -> list[str]:
        """What may be asked for, by name."""
        r2 = ["r2"] if MSE in self.metrics else []
        return [*(metric.name for metric in self.metrics), *r2, LOSS.name]

    def metric(self, name: str, targets: Sequence[Tensor]) -> Metric:
        """The metric of a name, the usual one for ""; of `targets`, split by split, r2 is made.

        Raises SparsityError for one that does not go with this kind of task.
        """
        if not name:
            return self.metrics[0]
        of_r2 = torch.cat(list(targets)) if name == "r2" and name in self.names else None
        found = metric_of(name, of_r2)
        if ":" not in name and found.name not in self.names:
            raise SparsityError(
                f"metric {name} does not go with {self.name}; choose {', '.join(self.names)} or "
                "your own module:function"
            )
        if found.name == LOSS.name:
            return replace(LOSS, per_sample=self.loss)
        return next((own for own in self.metrics if own.name == found.name), found)


CLASSES = Kind("classification", cross_entropy, (ACCURACY, TOP_5))
LOGITS = Kind("labels", logit_cross_entropy, (LABELS,))
PROBABILITIES = Kind("labels", probability_cross_entropy, (LABELS_BY_PROBABILITY,))
CLASS_A_PIXEL = Kind("segmentation", pixel_cross_entropy, (PIXELS, IOU))
NUMBERS = Kind("regression", squared_error, (MSE, MAE))
TOKENS = Kind("language", next_token, (PERPLEXITY,))
OWN_CLASSES = Kind("agreement", own_answer, (AGREEMENT, KL))
OWN_OUTPUTS = Kind("embedding", cosine_distance, (COSINE,))


def task_kind(outputs: Tensor, targets: Sequence[Tensor | None], asked: str = "") -> Kind:
    """The kind that the outputs of some samples and the targets, split by split, are of.

    `asked`: the metric that was asked for, "" for none. Raises SparsityError for a pair that is of
    no kind.
    """
    known = [own for own in targets if own is not None]
    if not known:
        return OWN_OUTPUTS if asked == COSINE.name or outputs.dim() != 2 else OWN_CLASSES
    first, numbers = known[0], outputs.shape[1:].numel()
    regressed = asked in NUMBERS.names and asked != LOSS.name
    if not regressed and first.shape[1:].numel() == numbers and all(map(_binary, known)):
        if outputs.dim() == 2 and numbers > 1 and all(map(_one_hot, known)):
            return CLASSES
        probable = bool(((outputs >= 0) & (outputs <= 1)).all())
        return PROBABILITIES if probable else LOGITS
    if first.is_floating_point():
        return NUMBERS
    if first.dim() == 2 and outputs.dim() == 3 and outputs.shape[1] == first.shape[1]:
        return TOKENS
    if outputs.dim() > 2 and outputs.shape[2:] == first.shape[1:]:
        return CLASS_A_PIXEL
    if first.dim() == 1 and outputs.dim() == 2:
        return CLASSES
    raise SparsityError(
        f"the model answers {tuple(outputs.shape[1:])} a sample and the targets are whole numbers "
        f"of {tuple(first.shape[1:])}; classes need (C,) and one number, labels that are there or "
        "not as many 0 and 1 as there are outputs, a class for each pixel (C, height, width) and "
        "(height, width), language modelling (T, vocabulary) and (T,); targets with a point are "
        "regressed"
    )


def as_kind(kind: Kind, split: str, targets: Tensor, outputs: int) -> Tensor:
    """Targets as the kind's loss takes them: class numbers, 0 and 1 as floats, IGNORED for none.

    `outputs`: classes of the model, where it has such. Raises SparsityError for a class without an
    output.
    """
    if kind in (LOGITS, PROBABILITIES):
        return targets.float()
    if kind is CLASS_A_PIXEL:
        targets = targets.masked_fill(targets == _VOID, IGNORED)
        _check_classes(split, targets[targets != IGNORED], outputs, ", or -100 where there is none")
    if kind is CLASSES:
        targets = targets.argmax(1) if targets.dim() == 2 else targets
        _check_classes(split, targets, outputs)
    return targets


def _check_classes(split: str, targets: Tensor, outputs: int, more: str = "") -> None:
    wrong = targets[(targets < 0) | (targets >= outputs)]
    if len(wrong):
        raise SparsityError(
            f"{split}: label {int(wrong[0])} is out of range for a model with {outputs} outputs; "
            f"number classes from 0{more}, and check that data and model belong together"
        )


def _binary(targets: Tensor) -> bool:
    return bool(((targets == 0) | (targets == 1)).all())


def _one_hot(targets: Tensor) -> bool:
    return targets.dim() == 2 and bool((targets.sum(1) == 1).all())
