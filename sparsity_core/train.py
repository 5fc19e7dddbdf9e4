"""Train and measure a model: the same steps for first training and for fine-tuning under masks."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparsity_core.data import Split
from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.recipe import Training
from sparsity_core.task import ACCURACY, Metric, PerSample, cross_entropy
from sparsity_core.trace import eval_mode
from sparsity_core.weights import mask_


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model does with each sample, on the CPU; every tensor is (N,)."""

    values: Tensor  # the metric
    losses: Tensor
    predictions: Tensor

    @property
    def value(self) -> float:
        """The metric's mean."""
        return self.values.double().mean().item()

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
    values, losses, predictions, broken = [], [], [], 0
    # Not inference mode: it hides the single products from whoever counts them.
    with eval_mode(model), torch.no_grad():
        for on_cpu, labels in split.batches(batch_size):
            inputs, targets = on_cpu.to(device), labels.to(device)
            outputs = model(inputs)
            _check_labels(split, outputs, labels)
            broken += int((~torch.isfinite(outputs)).reshape(len(outputs), -1).any(1).sum())
            values.append(metric.per_sample(outputs, targets).cpu())
            losses.append(loss(outputs, targets).cpu())
            predictions.append(outputs.argmax(1).cpu())
    if broken:
        raise NonFiniteError(
            f"{split.name}: the outputs for {broken} of {len(split)} samples are NaN or infinite; "
            "look for broken weights or inputs"
        )
    return Evaluation(torch.cat(values), torch.cat(losses), torch.cat(predictions))


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
) -> list[float]:
    """Train a model in place, on `device`, and leave it there in eval mode.

    Returns each epoch's mean loss. What `masks` (True = stays; any parameter by its name) leave
    out is zero before, during and after. `seed` decides the order and dropout; the global random
    state is left alone. Raises NonFiniteError when the loss becomes NaN or infinite.
    """
    sizes = _batch_sizes(model, split, training.batch_size)
    kept = {name: mask.to(device) for name, mask in (masks or {}).items()}
    model.to(device)
    mask_(model, kept)
    optimizer = _optimizer(model, training)
    order = torch.Generator().manual_seed(seed)
    steps = training.epochs * len(sizes)
    step = 0
    means: list[float] = []
    with _train_mode(model), _own_randomness(seed, device):
        for epoch in range(1, training.epochs + 1):
            total = 0.0
            for indices in torch.randperm(len(split), generator=order).split(sizes):
                rate = _set_rate_(optimizer, training, step / steps)
                step += 1
                outputs = model(split.inputs[indices].to(device))
                _check_labels(split, outputs, split.targets[indices])
                mean = loss(outputs, split.targets[indices].to(device)).mean()
                value = mean.item()
                if not math.isfinite(value):
                    raise NonFiniteError(
                        f"the loss became {value} in epoch {epoch}, step {step}; "
                        "lower the rate or clip the gradients"
                    )
                total += value * len(indices)
                optimizer.zero_grad()
                mean.backward()
                _mask_gradients_(model, kept)
                if training.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), training.clip)
                optimizer.step()
                mask_(model, kept)  # so it holds whatever an optimizer makes of zeros
            means.append(total / len(split))
            if on_epoch:
                on_epoch(Progress(epoch, training.epochs, step, steps, means[-1], rate))
    return means


def _batch_sizes(model: nn.Module, split: Split, size: int) -> list[int]:
    """The sizes of an epoch's batches.

    A single sample left over joins the batch before it: batch normalisation cannot normalise one
    sample, and dropping it would train on fewer samples than are reported.
    """
    if not len(split):
        raise SparsityError(f"{split.name}: no samples to train on; give at least one")
    whole, rest = divmod(len(split), size)
    sizes = [size] * whole + ([rest] if rest else [])
    if rest == 1 and whole:
        sizes[-2:] = [size + 1]
    if min(sizes) == 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise SparsityError(
            "the model has batch normalisation, which needs two samples a batch; "
            "raise the batch size or give more samples"
        )
    return sizes


def _optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise SparsityError("every parameter is frozen; call model.requires_grad_() to train it")
    decay = training.weight_decay
    if training.optimizer == "adam":
        return torch.optim.Adam(trained, lr=training.rate, weight_decay=decay)
    return torch.optim.SGD(
        trained, lr=training.rate, momentum=training.momentum, weight_decay=decay
    )


def _set_rate_(optimizer: torch.optim.Optimizer, training: Training, done: float) -> float:
    """Set the rate for the step that follows when the share `done` of all steps is over."""
    falls = training.rate_schedule == "cosine"
    rate = training.rate * (1 + math.cos(math.pi * done)) / 2 if falls else training.rate
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def _mask_gradients_(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set pruned weights' gradients to zero.

    Before clipping, or they would take part in the norm; and so they never enter the momentum.
    """
    for name, parameter in model.named_parameters():
        if name in masks and parameter.grad is not None:
            parameter.grad.masked_fill_(~masks[name], 0)


def _check_labels(split: Split, outputs: Tensor, labels: Tensor) -> None:
    """Raise SparsityError for a label without an output, which a GPU would answer by crashing."""
    if outputs.dim() != 2 or labels.dim() != 1 or labels.is_floating_point():
        return  # not a classification: the loss knows what it takes
    wrong = labels[(labels < 0) | (labels >= outputs.shape[1])]
    if len(wrong):
        raise SparsityError(
            f"{split.name}: label {int(wrong[0])} is out of range for a model with "
            f"{outputs.shape[1]} outputs; check the data or the model's last layer"
        )


@contextmanager
def _train_mode(model: nn.Module) -> Iterator[None]:
    """Train mode; eval mode and no gradients afterwards, whatever happens."""
    model.train()
    try:
        yield
    finally:
        model.eval()
        model.zero_grad()


@contextmanager
def _own_randomness(seed: int, device: str) -> Iterator[None]:
    """Dropout and the like draw from `seed`; the global random state is as before afterwards."""
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
