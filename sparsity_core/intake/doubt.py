"""Is the dense model as good as it should be? If not, its inputs are the first suspect."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparsity_core.intervals import proportion

_CLOSE = 0.05  # below the card by more than that is too far
_EACH = 5  # samples a class that a guess about the order of classes needs
_MOST_CLASSES = 2000  # the guess costs their cube


def doubts(outputs: Tensor, targets: Tensor, expected: float = 0.0) -> list[str]:
    """What speaks against the preprocessing or the order of classes: (N, C), (N,) -> sentences.

    `expected` is the accuracy on the model's card, 0 when nobody knows one. Empty when all is well.
    """
    count, classes = outputs.shape
    right = int((outputs.argmax(1) == targets).sum())
    found = proportion(right, count)
    shown = f"top-1 is {found.value:.1%} on {count:,} samples"
    if (mended := _reordered(outputs, targets)) > found.value + 0.25:
        return [
            f"{shown}, and would be {mended:.1%} if the classes stood in another order: say their "
            "order with --classes, as the model was trained with"
        ]
    if why := below_card(right / count, count, expected):
        return [why]
    chance = int(torch.bincount(targets, minlength=classes).max()) / count
    if not expected and classes > 1 and found.low < chance + 0.02 and chance < 0.9:
        return [
            f"{shown}, no better than always naming the commonest class ({chance:.1%}): is the "
            "preprocessing right, and are these the trained weights?"
        ]
    return []


def below_card(value: float, samples: int, expected: float) -> str:
    """What speaks against the inputs when an accuracy is far below the card's; "" when all is well.

    Far: more than 5 points below, and the samples are enough to say so. `expected` 0 = no card.
    """
    found = proportion(round(value * samples), samples)
    if not expected or found.high >= expected - _CLOSE:
        return ""
    return (
        f"top-1 is {found.value:.1%} on {samples:,} samples, but {expected:.1%} is on the model's "
        "card: is the preprocessing right? Check mean, std, the range of pixels (0 to 1 or 0 to "
        "255), RGB or BGR, the size, and the order of classes"
    )


def on_card(card: Mapping[str, Any] | None, split: str) -> float:
    """The accuracy of a split on a card; 0 where there is none."""
    try:
        return float(card["accuracy"][split]["value"]) if card else 0.0
    except (KeyError, TypeError, ValueError):
        return 0.0


def _reordered(outputs: Tensor, targets: Tensor) -> float:
    """The accuracy if outputs were renamed as suits the samples best; 0 when there are too few."""
    from scipy.optimize import linear_sum_assignment  # takes half a second to load

    count, classes = outputs.shape
    if classes > _MOST_CLASSES or count < _EACH * len(targets.unique()) or classes < 3:
        return 0.0
    pairs = torch.zeros(classes, classes)
    pairs.index_put_((outputs.argmax(1), targets), torch.ones(count), accumulate=True)
    rows, columns = linear_sum_assignment(-pairs.numpy())
    return float(pairs[rows, columns].sum()) / count
