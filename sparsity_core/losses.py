"""What training makes small, one number a sample."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.errors import SparsityError

PerSample = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> (N,)

IGNORED = -100  # a target that is no target, such as padding; torch's own number for it


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each sample, in nats: outputs (N, classes), targets (N,) -> (N,)."""
    return F.cross_entropy(outputs, targets, reduction="none")


def next_token(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of a sample's tokens, in nats: (N, T, vocabulary), (N, T) -> (N,)."""
    if outputs.dim() != 3 or outputs.shape[:2] != targets.shape:
        raise SparsityError(
            f"the model answers {tuple(outputs.shape)} to targets of {tuple(targets.shape)}; "
            "language modelling needs (N, T, vocabulary) and (N, T)"
        )
    each = F.cross_entropy(outputs.mT, targets, reduction="none", ignore_index=IGNORED)
    return mean_of_known(each, targets)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of (output - target)^2 of each sample: (N, ...) and the same -> (N,)."""
    return _differences(outputs, targets).square().mean(1)


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of |output - target| of each sample: (N, ...) and the same -> (N,)."""
    return _differences(outputs, targets).abs().mean(1)


def own_answer(outputs: Tensor, dense: Tensor) -> Tensor:
    """The cross-entropy against what the dense model answers: (N, C), its outputs (N, C) -> (N,).

    Against its answers and not its outputs: from these the dense model has no distance, hence no
    gradient to score by.
    """
    return F.cross_entropy(outputs, dense.argmax(1), reduction="none")


def cosine_distance(outputs: Tensor, dense: Tensor) -> Tensor:
    """1 - cosine to the dense model's output: (N, ...) and the same -> (N,).

    At the dense model itself it is flat, so whoever asks for its gradient there gets SparsityError.
    """
    if outputs.requires_grad and bool(torch.isclose(outputs, dense).all()):
        raise SparsityError(
            "the dense model is no distance away from itself, so there is no gradient to score by; "
            "choose a scorer without one, such as magnitude or wanda, or give targets"
        )
    return 1 - cosine(outputs, dense)


def logit_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean binary cross-entropy of a sample's labels, in nats: logits (N, ...), 0 or 1 -> (N,).

    The targets have the size of the outputs.
    """
    outputs, targets = alike(outputs, targets)
    return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(1)


def probability_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """As `logit_cross_entropy`, of a model that answers probabilities."""
    outputs, targets = alike(outputs, targets)
    return F.binary_cross_entropy(outputs.clamp(0, 1), targets, reduction="none").mean(1)


def pixel_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of a sample's pixels, in nats: (N, C, ...), (N, ...) -> (N,)."""
    if outputs.shape[:1] + outputs.shape[2:] != targets.shape:
        raise SparsityError(
            f"the model answers {tuple(outputs.shape)} to targets of {tuple(targets.shape)}; "
            "a class for each pixel needs (N, C, height, width) and (N, height, width)"
        )
    each = F.cross_entropy(outputs, targets, reduction="none", ignore_index=IGNORED)
    return mean_of_known(each, targets)


def mean_of_known(each: Tensor, targets: Tensor) -> Tensor:
    """The mean of a sample's numbers, zero where the target is IGNORED, over the others: (N,)."""
    return each.flatten(1).sum(1) / (targets != IGNORED).flatten(1).sum(1).clamp(min=1)


def cosine(outputs: Tensor, dense: Tensor) -> Tensor:
    """The cosine of each sample's output to the dense model's."""
    return F.cosine_similarity(outputs.flatten(1), dense.flatten(1))


def _differences(outputs: Tensor, targets: Tensor) -> Tensor:
    outputs, targets = alike(outputs, targets)
    return outputs - targets


def alike(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Each (N, numbers); never by broadcasting, which makes (N, N) of (N, 1) and (N,)."""
    if len(outputs) != len(targets) or outputs.numel() != targets.numel():
        raise SparsityError(
            f"the model answers {tuple(outputs.shape)} to targets of {tuple(targets.shape)}; "
            "they must have the same size"
        )
    return outputs.reshape(len(targets), -1), targets.reshape(len(targets), -1).to(outputs.dtype)
