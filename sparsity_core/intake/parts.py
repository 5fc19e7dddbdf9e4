"""From a module and samples to everything that a task is made of, checked by running it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.copied import copied
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.intake.adapt import adapted, linear_from_conv1d_, output_of, try_out
from sparsity_core.intake.doubt import doubts
from sparsity_core.intake.how import How
from sparsity_core.intake.plain_weights import plain_weights_
from sparsity_core.intake.samples import Samples
from sparsity_core.intake.task_kind import (
    CLASSES,
    LOGITS,
    OWN_CLASSES,
    OWN_OUTPUTS,
    PROBABILITIES,
    Kind,
    as_kind,
    task_kind,
)
from sparsity_core.losses import PerSample
from sparsity_core.metrics import Metric

_TRIED = 4  # samples that the model is tried out on
_LOOKED_AT = 512  # samples of validation that say whether the dense model is sound
_NUMBERS = 2**26  # of all outputs that are looked at
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Parts:
    """What a Task is made of, and what a person should know of it."""

    model: nn.Module
    train: Split
    validation: Split
    test: Split
    loss: PerSample
    metric: Metric
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def parts_of(model: nn.Module, samples: Samples, how: How, *, own_copy: bool = True) -> Parts:
    """A model made ready (evaluation mode, float32, CPU, one tensor in and out) with its data.

    The task's kind follows from the targets (`task_kind`): classes, labels that are there or not, a
    class for each pixel, next tokens, or numbers to be met. Without targets the pruned model is
    measured against the dense one. Tried out on a few samples first. Raises SparsityError when the
    model raises, answers NaN, answers differently the second time, or does not go with the targets.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise SparsityError(
            "TorchScript hides its layers; give the nn.Module that it was made from, or its ONNX"
        )
    model = (copied(model) if own_copy else model).eval().float().cpu().requires_grad_(True)
    notes = list(samples.notes)
    if plain := plain_weights_(model):
        named = [f"{name} ({maker})" for name, maker in plain.items()]
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        notes.append(f"weights made plain, as they act: {', '.join(named[:3])}{more}")
    if changed := linear_from_conv1d_(model):
        notes.append(f"{len(changed)} Conv1D became Linear, their weights transposed")
    some = samples.splits["validation"][0][:_TRIED]
    model = adapted(model, samples.packing, None)
    output = output_of(try_out(model, some), how.output)
    if output is not None:
        notes.append(f"of the model's outputs {output!r} counts")
        model = adapted(model, None, output)
    _check_sound(model, some)
    outputs, every = _looked_at(model, samples.splits["validation"][0])
    kind = task_kind(outputs, [targets for _, targets in samples.splits.values()], how.metric)
    splits = _with_targets(model, samples, kind, outputs)
    metric = kind.metric(how.metric, [split.targets for split in splits.values()])
    parts = Parts(model, **splits, loss=kind.loss, metric=metric, classes=samples.classes, notes=())
    targets = parts.validation.targets[::every][: len(outputs)]
    notes += _look(parts, kind, outputs, targets, how.expect)
    if kind in (OWN_CLASSES, OWN_OUTPUTS):
        notes.append("no targets: everything is measured against the dense model's own outputs")
    return Parts(**(vars(parts) | {"notes": tuple(notes)}))


def _check_sound(model: nn.Module, inputs: Tensor) -> None:
    first, second = try_out(model, inputs), try_out(model, inputs)
    if not isinstance(first, Tensor) or len(first) != len(inputs) or not first.is_floating_point():
        shape = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise SparsityError(
            f"the model answers {shape} to {len(inputs)} samples; it must answer one row of "
            "numbers a sample"
        )
    if broken := int((~torch.isfinite(first)).sum()):
        raise SparsityError(
            f"{broken} of the dense model's {first.numel()} outputs are NaN or infinite; look at "
            "its weights, its precision and the range of the inputs"
        )
    if not torch.equal(first, second):
        raise SparsityError(
            "the model answers the same inputs differently the second time: it draws random "
            "numbers or keeps a state in evaluation mode; let it draw only when self.training, or "
            "from a generator that it seeds itself"
        )


def _with_targets(
    model: nn.Module, samples: Samples, kind: Kind, outputs: Tensor
) -> dict[str, Split]:
    classes = outputs.shape[1] if outputs.dim() > 1 else 1
    if kind is CLASSES and len(samples.classes) > classes:
        raise SparsityError(
            f"the data has {len(samples.classes)} classes and the model {classes} outputs; check "
            "that they belong together"
        )
    splits = {}
    for name, (inputs, targets) in samples.splits.items():
        if targets is None:
            targets = torch.cat([try_out(model, part) for part in inputs.split(_BATCH)])
        splits[name] = Split(inputs, as_kind(kind, name, targets, classes), name)
    return splits


def _look(parts: Parts, kind: Kind, outputs: Tensor, targets: Tensor, expected: float) -> list[str]:
    """What a first look at the dense model's outputs for some samples says."""
    values = _tried(parts.metric.per_sample, outputs, targets, parts.metric.name)
    mean = parts.metric.shown(float(values.double().mean()))
    number = f"{mean:.1%}" if parts.metric.share else f"{mean:.4g}"
    notes = [f"dense {parts.metric.name}: {number} on {len(values):,} samples of validation"]
    if kind in (LOGITS, PROBABILITIES):
        often = targets.flatten(1).mean(0) if targets.dim() > 1 else targets.mean()
        naive = float(torch.maximum(often, 1 - often).mean())
        notes.append(f"always giving each label its commoner answer is right for {naive:.1%}")
    if kind is CLASSES:
        notes += doubts(outputs, targets, expected)
        used = len(targets.unique())
        if used == 1:
            notes.append(f"all samples looked at are of class {int(targets[0])}; mix the classes")
        elif parts.classes and len(parts.classes) < outputs.shape[1]:
            notes.append(
                f"the data has {len(parts.classes)} classes, the model {outputs.shape[1]} outputs: "
                "the first so many are taken to be these; say otherwise with --classes"
            )
    return notes


def _looked_at(model: nn.Module, inputs: Tensor) -> tuple[Tensor, int]:
    """The outputs for every so many-th sample, fewer where an output is large; and how many-th."""
    every = max(1, len(inputs) // _LOOKED_AT)
    most = _NUMBERS // max(try_out(model, inputs[:1]).numel(), 1)
    some = inputs[::every][: max(_TRIED, min(_LOOKED_AT, most))]
    return torch.cat([try_out(model, part) for part in some.split(_BATCH)]), every


def _tried(per_sample: Callable[..., Any], outputs: Tensor, targets: Tensor, name: str) -> Tensor:
    try:
        found = per_sample(outputs, targets)
    except SparsityError:
        raise
    except Exception as error:  # a metric may be anybody's code
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SparsityError(f"metric {name}: failed ({said})") from error
    if not isinstance(found, Tensor):
        raise SparsityError(f"metric {name}: must give a tensor with one number a sample")
    return found
