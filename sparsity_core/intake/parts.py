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
from sparsity_core.metrics import (
    ACCURACY,
    AGREEMENT,
    COSINE,
    MSE,
    PERPLEXITY,
    Metric,
    PerSample,
    cosine_distance,
    cross_entropy,
    metric_of,
    next_token,
    own_answer,
    squared_error,
)

_TRIED = 4  # samples that the model is tried out on
_LOOKED_AT = 512  # samples of validation that say whether the dense model is sound
_BATCH = 64

# What can be asked of each kind of task; the first is what it is asked by itself.
_METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "top-5", "loss"),
    "regression": ("mse", "mae", "r2", "loss"),
    "language": ("perplexity", "loss"),
    "agreement": ("agreement", "kl", "loss"),
    "embedding": ("cosine", "loss"),
}
_LOSSES: dict[str, PerSample] = {
    "classification": cross_entropy,
    "regression": squared_error,
    "language": next_token,
    "agreement": own_answer,
    "embedding": cosine_distance,
}
_DEFAULTS = {
    "classification": ACCURACY,
    "regression": MSE,
    "language": PERPLEXITY,
    "agreement": AGREEMENT,
    "embedding": COSINE,
}


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

    The task's kind follows from the targets: whole numbers (N,) are classes, (N, T) next tokens,
    others are regressed. Without targets the pruned model is measured against the dense one. Tried
    out on a few samples first. Raises SparsityError when the model raises, answers NaN, answers
    differently the second time, or does not go with the targets.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise SparsityError(
            "TorchScript hides its layers; give the nn.Module that it was made from, or its ONNX"
        )
    model = (copied(model) if own_copy else model).eval().float().cpu().requires_grad_(True)
    notes = list(samples.notes)
    if plain := plain_weights_(model):
        named = [f"{name} ({how})" for name, how in plain.items()]
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
    kind = _kind(model, samples, how)
    splits = _with_targets(model, samples, kind)
    metric = _metric(how.metric, kind, splits)
    parts = Parts(
        model, **splits, loss=_LOSSES[kind], metric=metric, classes=samples.classes, notes=()
    )
    notes += _look(parts, kind, how.expect)
    if kind in ("agreement", "embedding"):
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


def _kind(model: nn.Module, samples: Samples, how: How) -> str:
    inputs, targets = samples.splits["validation"]
    outputs = try_out(model, inputs[:_TRIED])
    if targets is None:
        return "embedding" if how.metric == "cosine" or outputs.dim() != 2 else "agreement"
    if targets.is_floating_point():
        return "regression"
    if targets.dim() == 2 and outputs.dim() == 3:
        return "language"
    if targets.dim() != 1 or outputs.dim() != 2:
        raise SparsityError(
            f"the model answers {tuple(outputs.shape[1:])} a sample and the targets are whole "
            f"numbers of {tuple(targets.shape[1:])}; classes need (C,) and one number, language "
            "modelling (T, vocabulary) and (T,); targets with a point are regressed"
        )
    _check_classes(samples, outputs.shape[1])
    return "classification"


def _check_classes(samples: Samples, outputs: int) -> None:
    for name, (_, targets) in samples.splits.items():
        assert targets is not None  # who has classes has targets
        wrong = targets[(targets < 0) | (targets >= outputs)]
        if len(wrong):
            raise SparsityError(
                f"{name}: label {int(wrong[0])} is out of range for a model with {outputs} "
                "outputs; number classes from 0, and check that data and model belong together"
            )
    if len(samples.classes) > outputs:
        raise SparsityError(
            f"the data has {len(samples.classes)} classes and the model {outputs} outputs; check "
            "that they belong together"
        )


def _with_targets(model: nn.Module, samples: Samples, kind: str) -> dict[str, Split]:
    splits = {}
    for name, (inputs, targets) in samples.splits.items():
        if kind in ("agreement", "embedding"):
            targets = torch.cat([try_out(model, part) for part in inputs.split(_BATCH)])
        assert targets is not None
        splits[name] = Split(inputs, targets, name)
    return splits


def _metric(name: str, kind: str, splits: dict[str, Split]) -> Metric:
    if not name:
        return _DEFAULTS[kind]
    targets = torch.cat([split.targets for split in splits.values()]) if name == "r2" else None
    found = metric_of(name, targets if kind == "regression" else None)
    if ":" not in name and found.name not in _METRICS[kind]:
        raise SparsityError(
            f"metric {name} does not go with {kind}; choose {', '.join(_METRICS[kind])} or your "
            "own module:function"
        )
    if found.name == "loss":
        return Metric("loss", _LOSSES[kind], higher_is_better=False, share=False)
    return found


def _look(parts: Parts, kind: str, expected: float) -> list[str]:
    """What a first look at the dense model says."""
    split = parts.validation
    every = max(1, len(split) // _LOOKED_AT)
    inputs, targets = split.inputs[::every][:_LOOKED_AT], split.targets[::every][:_LOOKED_AT]
    outputs = torch.cat([try_out(parts.model, part) for part in inputs.split(_BATCH)])
    values = _tried(parts.metric.per_sample, outputs, targets, parts.metric.name)
    mean = parts.metric.shown(float(values.double().mean()))
    number = f"{mean:.1%}" if parts.metric.share else f"{mean:.4g}"
    notes = [f"dense {parts.metric.name}: {number} on {len(values):,} samples of validation"]
    if kind == "classification":
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
