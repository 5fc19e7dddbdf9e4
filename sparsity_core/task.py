"""A task: a trained model, the data it is measured on, and what counts as good."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.copied import copied
from sparsity_core.data import Split
from sparsity_core.digest import digest_of, digest_of_tensors
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.intake.adapt import try_out
from sparsity_core.intake.doubt import doubts, on_card
from sparsity_core.intake.fit import load_
from sparsity_core.intake.how import How, parse
from sparsity_core.intake.onnx_file import read_onnx
from sparsity_core.intake.onnx_module import agreement, module_of
from sparsity_core.intake.onnx_plain import load_graph
from sparsity_core.intake.parts import Parts, parts_of
from sparsity_core.intake.samples import read_samples
from sparsity_core.intake.source import check_module, from_timm, from_transformers, made_by
from sparsity_core.intake.uploaded import reference_behind
from sparsity_core.losses import PerSample, cross_entropy
from sparsity_core.metrics import ACCURACY, Metric, metric_of

__all__ = [
    "ACCURACY",
    "SPLITS",
    "CatalogEntry",
    "Metric",
    "PerSample",
    "Task",
    "catalog",
    "cross_entropy",
    "load_task",
    "task_of",
]

SPLITS = ("train", "validation", "test")
_GROUP = "sparsity_core.models"
_LOOKED_AT, _BATCH = 512, 64  # samples that other weights are tried on


@dataclass(frozen=True, eq=False)
class Task:
    """A model (eval mode, float32, on the CPU) with its data, loss and metric.

    `name` is what `load_task` takes to load it again. Raises SparsityError for a model that is in
    training mode, elsewhere or in another type.
    """

    name: str
    model: nn.Module
    train: Split  # scores and fine-tunes
    validation: Split  # chooses
    test: Split  # reports
    loss: PerSample = cross_entropy
    metric: Metric = ACCURACY
    classes: tuple[str, ...] = ()
    card: Mapping[str, Any] | None = None  # how the model was trained
    fresh: Callable[[], nn.Module] | None = None  # builds it untrained, from torch's random state
    notes: tuple[str, ...] = ()  # what a person should know of it

    def __post_init__(self) -> None:
        if self.model.training:
            raise SparsityError(f"{self.name}: the model is in training mode; call model.eval()")
        for name, parameter in self.model.named_parameters():
            if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
                raise SparsityError(
                    f"{self.name}: {name} is {parameter.dtype} on {parameter.device}; "
                    "a task needs float32 on the CPU: call model.float().cpu()"
                )

    def split(self, name: str) -> Split:
        """The split of a name; raises SparsityError for an unknown one."""
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        found: Split = getattr(self, name)
        return found

    @cached_property
    def model_digest(self) -> str:
        """A name of the model: its class and every byte of its state, when first asked."""
        state = {k: v for k, v in self.model.state_dict().items() if isinstance(v, Tensor)}
        return digest_of([type(self.model).__qualname__, digest_of_tensors(state)])


@dataclass(frozen=True)
class CatalogEntry:
    """A model that `load_task` knows by name."""

    name: str
    summary: str
    load: Callable[[int], Task]  # takes a seed
    missing: Callable[[], str | None]  # None when its data is there, else what to do
    card: Callable[[], Mapping[str, Any] | None]
    sensitivity: Callable[[], Mapping[str, Any] | None] = lambda: None  # a finished sweep
    tickets: Callable[[], Mapping[str, Any] | None] = lambda: None  # a finished experiment
    moving: Callable[[], Mapping[str, Any] | None] = lambda: None  # another, with moving masks
    export: Callable[[], Mapping[str, Any] | None] = lambda: None  # what an export has given
    kernels: Callable[[], Mapping[str, Any] | None] = lambda: None  # finished timings
    curve: Callable[[], Mapping[str, Any] | None] = lambda: None  # of whole models


def catalog() -> dict[str, CatalogEntry]:
    """The models that installed packages offer: entry points `sparsity_core.models`.

    Each entry point is a dict of name -> CatalogEntry. Raises SparsityError for a broken one.
    """
    found: dict[str, CatalogEntry] = {}
    for point in entry_points(group=_GROUP):
        try:
            found |= point.load()
        except Exception as error:  # a module may raise anything on import
            raise SparsityError(
                f"models of {point.value} could not be loaded ({_said(error)}); "
                "mend or uninstall that package"
            ) from error
    return found


def load_task(reference: str, seed: int = 0) -> Task:
    """The task of a catalog name, or of a model of one's own.

    One's own: `package.module:factory` that returns a Task, or that returns an nn.Module with data
    said behind it, as `reference_of` writes it: `my.models:make?weights=best.pt&data=val`. Also
    `timm:NAME`, `hf:DIRECTORY`, `onnx:FILE`. A factory takes nothing or `seed`. The task's name is
    the reference. A reference with a colon may import and run code: take it from the person at the
    machine only. Raises SparsityError for an unknown name, missing data, or a module or factory
    that fails.
    """
    source, how = parse(reference)
    if source.startswith("upload:"):
        return replace(load_task(reference_behind(source.removeprefix("upload:"))), name=reference)
    if ":" in source:
        return replace(_own(source, how, seed), name=reference)
    entries = catalog()
    if source not in entries:
        raise unknown("model", source, entries)
    if (reason := entries[source].missing()) is not None:
        raise SparsityError(f"{source}: its data is missing; {reason}")
    return replace(_with(_listed(entries[source], seed), how), name=reference)


def task_of(
    model: nn.Module, data: Any, *, name: str = "own model", seed: int = 0, **options: Any
) -> Task:
    """The task of any module and data, for a notebook; the module itself is left alone.

    `data` is what `read_samples` takes: a path, arrays, (inputs, targets), splits by name. Options
    are the fields of `How`, such as `metric`, `input_size`, `mean`, `std`, `classes`, `output`.
    What should be known of the task is in its `notes`. Points of it run in this process: a worker
    process can load only a task that has a reference.
    """
    how = How(**options)
    return _assembled(name, parts_of(model, read_samples(data, how, seed), how))


def _listed(entry: CatalogEntry, seed: int) -> Task:
    try:
        return entry.load(seed)
    except SparsityError:
        raise
    except Exception as error:  # another package's code may raise anything
        raise SparsityError(
            f"{entry.name} cannot be opened: {_said(error)}; mend the package that lists it"
        ) from error


def _own(source: str, how: How, seed: int) -> Task:
    kind, _, rest = source.partition(":")
    model: Any
    if kind == "timm":
        model, how = from_timm(rest, how)
    elif kind == "hf":
        model = from_transformers(rest)
    elif kind == "onnx":
        plain = rest.endswith(".safetensors")  # what a separate process made of an upload
        model = module_of(load_graph(Path(rest)) if plain else read_onnx(rest))
    else:
        model = made_by(source, seed)
    if isinstance(model, Task):
        return _with(model, how)
    if not how.data:
        raise SparsityError(
            f"{source} returned {type(model).__name__}; a factory must return a "
            "sparsity_core.task.Task(name, model, train, validation, test), or an nn.Module "
            "beside data: say which with --data"
        )
    model = check_module(source, model)
    notes = load_(model, how.weights, how.place or None) if how.weights else []
    samples = read_samples(how.data, how, seed)
    if kind == "onnx" and not rest.endswith(".safetensors"):
        some = samples.splits["validation"][0][:4]
        notes = [*notes, agreement(model, Path(rest), some, samples.packing)]
    return _assembled(source, parts_of(model, samples, how, own_copy=False), notes)


def _with(task: Task, how: How) -> Task:
    """A task that is whole already, with other weights or another metric."""
    extra = {f.name for f in fields(how) if getattr(how, f.name) != f.default}
    if strange := sorted(extra - {"weights", "place", "metric"}):
        raise SparsityError(
            f"{task.name} brings its own data; {strange[0].replace('_', '-')} cannot be said of it"
        )
    if how.weights:
        model = copied(task.model)
        notes = load_(model, how.weights, how.place or None)
        notes += _beside_card(model, task.validation, on_card(task.card, "validation"))
        task = replace(task, model=model, card=None, notes=(*task.notes, *notes))
    return replace(task, metric=metric_of(how.metric)) if how.metric else task


def _beside_card(model: nn.Module, validation: Split, expected: float) -> list[str]:
    """What there is to say of other weights where the model's own have a card."""
    if not expected:
        return []
    parts = validation.inputs[:_LOOKED_AT].split(_BATCH)
    outputs = torch.cat([try_out(model, part) for part in parts])
    return doubts(outputs, validation.targets[:_LOOKED_AT], expected)


def _assembled(name: str, parts: Parts, notes: Sequence[str] = ()) -> Task:
    values = {field.name: getattr(parts, field.name) for field in fields(parts)}
    return Task(name, **(values | {"notes": (*notes, *parts.notes)}))


def _said(error: Exception) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
