"""Train and measure a model: the same steps for first training and for fine-tuning under masks."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity_core.batches import check_labels
from sparsity_core.checkpoint import UnderWay
from sparsity_core.course import Course
from sparsity_core.data import Split
from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.recipe import Training
from sparsity_core.resume import advance_, resume_
from sparsity_core.task import ACCURACY, Metric, PerSample, cross_entropy
from sparsity_core.trace import eval_mode


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model does with each sample, on the CPU; every tensor is (N,)."""

    values: Tensor  # the metric
    losses: Tensor
    predictions: Tensor  # the place of the largest output
    metric: Metric = ACCURACY
    confidences: Tensor | None = None  # the prediction's probability, of outputs (N, classes)

    @property
    def value(self) -> float:
        """The metric: its mean, or what that stands for."""
        return self.metric.shown(self.values.double().mean().item())

    @property
    def loss(self) -> float:
        """The mean loss."""
        return self.losses.double().mean().item()


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    loss: PerSample = cross_entropy,
    metric: Metric = ACCURACY,
    batch_size: int = 512,
    device: str = "cpu",
) -> Evaluation:
    """Measure a model, which is on `device`, on every sample of a split.

    The model is in eval mode meanwhile and as before afterwards. Raises NonFiniteError when
    outputs are NaN or infinite, SparsityError for an empty split or a label without an output.
    """
    if not len(split):
        raise SparsityError(f"{split.name}: no samples to evaluate; give at least one")
    values, losses, predictions, confidences, broken = [], [], [], [], 0
    # Not inference mode: it hides the single products from whoever counts them.
    with eval_mode(model), torch.no_grad():
        for on_cpu, labels in split.batches(batch_size):
            inputs, targets = on_cpu.to(device), labels.to(device)
            outputs = model(inputs)
            check_labels(split, outputs, labels)
            broken += int((~torch.isfinite(outputs)).reshape(len(outputs), -1).any(1).sum())
            values.append(metric.per_sample(outputs, targets).cpu())
            losses.append(loss(outputs, targets).cpu())
            predictions.append(outputs.reshape(len(outputs), -1).argmax(1).cpu())
            if outputs.dim() == 2:
                confidences.append(outputs.softmax(1).amax(1).cpu())
    check_broken(split, broken)
    found = (torch.cat(values), torch.cat(losses), torch.cat(predictions), metric)
    return Evaluation(*found, torch.cat(confidences) if confidences else None)


def check_broken(split: Split, broken: int) -> None:
    """Raise NonFiniteError when the outputs for so many samples of a split are not finite."""
    if broken:
        raise NonFiniteError(
            f"{split.name}: the outputs for {broken} of {len(split)} samples are NaN or infinite; "
            "look for broken weights or inputs"
        )


@dataclass(frozen=True)
class Progress:
    """Where training stands at the end of an epoch; epochs and steps count from 1."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float  # the epoch's mean over samples
    rate: float  # of the last step


def train_(
    model: nn.Module,
    split: Split,
    training: Training,
    *,
    loss: PerSample = cross_entropy,
    masks: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    device: str = "cpu",
    on_epoch: Callable[[Progress], None] | None = None,
    under_way: UnderWay | None = None,
) -> list[float]:
    """Train a model in place, on `device`, and leave it there in eval mode.

    Returns each epoch's mean loss. What `masks` (True = stays; any parameter by its name) leave
    out is zero before, during and after. `seed` decides the order and dropout; the global random
    state is left alone. With `training.steps` the last epoch may be a part of one. With `under_way`
    it goes on from where it was saved, with the same result; `on_epoch` hears of later epochs only.
    Raises NonFiniteError when the loss becomes NaN or infinite.
    """
    under_way = under_way or UnderWay()
    course = Course(model, split, training, loss=loss, masks=masks, seed=seed, device=device)
    a_round = len(course.sizes)
    epochs = math.ceil(course.steps / a_round)
    losses = resume_(course, under_way)
    means: list[float] = []
    for epoch in range(1, epochs + 1):
        told = course.step >= min(epoch * a_round, course.steps)
        advance_(course, epoch * a_round, losses, under_way)
        own = losses[(epoch - 1) * a_round : epoch * a_round]
        sizes = course.sizes[: len(own)]
        means.append(sum(x * n for x, n in zip(own, sizes, strict=True)) / sum(sizes))
        if on_epoch and not told:
            on_epoch(Progress(epoch, epochs, course.step, course.steps, means[-1], course.rate))
    return means
