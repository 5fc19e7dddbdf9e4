"""Train, evaluate, and fine-tune under masks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity_core.data import Split
from sparsity_core.errors import NonFiniteError, SparsityError, unknown
from sparsity_core.recipe import Training
from sparsity_core.task import ACCURACY, Metric, PerSample, cross_entropy
from sparsity_core.weights import mask_


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model made of a split, sample by sample; tensors of shape (N,) on the CPU."""

    values: Tensor  # metric
    losses: Tensor
    predictions: Tensor  # class with the highest output

    @property
    def value(self) -> float:
        """The mean metric."""
        return float(self.values.double().mean())

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.losses.double().mean())


@dataclass(frozen=True)
class Progress:
    """Where training stands after an epoch; `loss` is the mean over its samples."""

    epoch: int  # from 1
    epochs: int
    loss: float


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    loss: PerSample = cross_entropy,
    metric: Metric = ACCURACY,
    batch_size: int = 512,
    device: str = "cpu",
) -> Evaluation:
    """Metric, loss and prediction of every sample, in evaluation mode; the mode is restored.

    Raises NonFiniteError when outputs are NaN or infinite, SparsityError for an empty split or a
    label that the model has no output for.
    """
    if not len(split):
        raise SparsityError("the split has no samples; choose another")
    was_training = model.training
    model.to(device).eval()
    try:
        # Not inference mode: whoever watches single products could not see them.
        with torch.no_grad():
            parts = [
                _measured(model(x.to(device)), y.to(device), loss, metric)
                for x, y in split.batches(batch_size)
            ]
    finally:
        model.train(was_training)
    values, losses, predictions = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    if broken := int((~torch.isfinite(losses)).sum()):
        raise NonFiniteError(
            f"the outputs for {broken} of {len(split)} samples are NaN or infinite; "
            "the weights or inputs have overflowed"
        )
    return Evaluation(values, losses, predictions)


def _measured(
    outputs: Tensor, targets: Tensor, loss: PerSample, metric: Metric
) -> tuple[Tensor, Tensor, Tensor]:
    if outputs.dim() == 2 and not targets.is_floating_point():
        largest = int(targets.max())
        if largest >= outputs.shape[1] or int(targets.min()) < 0:
            wrong = largest if largest >= outputs.shape[1] else int(targets.min())
            raise SparsityError(
                f"label {wrong} is out of range: the model has {outputs.shape[1]} outputs; "
                "mend the labels or choose another model"
            )
    losses = loss(outputs, targets)
    return metric.per_sample(outputs, targets).float(), losses, outputs.argmax(-1)


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
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> list[float]:
    """Train a model in place and return the mean loss of each epoch; it is left in evaluation mode.

    Masked weights are zero before, during and after: their gradients go before clipping, so that
    they take no share of the norm, and the mask is applied again after each step, since momentum
    and weight decay move weights too. `seed` decides the order of samples, dropout and `augment`,
    whatever the global generator holds. Raises NonFiniteError when the loss is NaN or infinite.
    """
    masks = {name: mask.to(device) for name, mask in (masks or {}).items()}
    parameters = dict(model.to(device).named_parameters())
    for name in masks:
        if name not in parameters:
            raise unknown("parameter in masks", name, parameters)
    mask_(model, masks)
    data, order = split.to(device), torch.Generator().manual_seed(seed)
    steps = training.epochs * len(_batches_of(len(split), training.batch_size, None))
    optimizer, rates = _optimizer(model, training, steps)
    losses: list[float] = []
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        model.train()
        for epoch in range(1, training.epochs + 1):
            total = 0.0
            for indices in _batches_of(len(split), training.batch_size, order):
                batch = data.take(indices.to(device))
                inputs = augment(batch.inputs, order) if augment else batch.inputs
                value = loss(model(inputs), batch.targets).mean()
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                for name, mask in masks.items():
                    if (gradient := parameters[name].grad) is not None:
                        gradient.masked_fill_(~mask, 0)
                if training.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), training.clip)
                optimizer.step()
                rates.step()
                mask_(model, masks)
                total += float(value.detach()) * len(indices)
            losses.append(total / len(split))
            if not torch.isfinite(torch.tensor(losses[-1])):
                raise NonFiniteError(
                    f"the training loss became {losses[-1]} in epoch {epoch}; lower the rate "
                    f"({training.rate:g}) or clip gradients"
                )
            if on_epoch:
                on_epoch(Progress(epoch, training.epochs, losses[-1]))
    model.eval()
    return losses


def _batches_of(samples: int, size: int, order: torch.Generator | None) -> list[Tensor]:
    """Indices by batch. A last batch of one joins the one before, for batch norm."""
    shuffled = torch.randperm(samples, generator=order)
    batches = list(shuffled.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _optimizer(
    model: nn.Module, training: Training, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer
    if training.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            parameters,
            training.rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
        )
    else:
        optimizer = torch.optim.Adam(parameters, training.rate, weight_decay=training.weight_decay)
    if training.rate_schedule == "cosine":
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
