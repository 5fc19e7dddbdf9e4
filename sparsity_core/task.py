"""A task: a trained model, its data, its loss and its metric; found by name."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_core.data import Split
from sparsity_core.digest import digest_of, digest_of_tensors
from sparsity_core.errors import SparsityError, unknown

PerSample = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> (N,)

SPLITS = ("train", "validation", "test")
_ENTRY_POINTS = "sparsity_core.models"


@dataclass(frozen=True)
class Metric:
    """A number for each sample; its mean is what a sweep reports."""

    name: str
    per_sample: PerSample


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log softmax of the right class, one number a sample."""
    return F.cross_entropy(outputs, targets, reduction="none")


def _is_right(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(-1) == targets).float()


ACCURACY = Metric("accuracy", _is_right)


@dataclass(frozen=True, eq=False)
class Task:
    """A model (on the CPU, in evaluation mode) and the data that scores, chooses and reports."""

    name: str  # what `load_task` takes
    model: nn.Module
    train: Split
    validation: Split
    test: Split
    loss: PerSample = cross_entropy
    metric: Metric = ACCURACY
    classes: tuple[str, ...] = ()
    card: Mapping[str, Any] | None = None

    def split(self, name: str) -> Split:
        """One of SPLITS by name."""
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        split: Split = getattr(self, name)
        return split

    @cached_property
    def model_digest(self) -> str:
        """A name of the model's class and every byte of its state."""
        kind = f"{type(self.model).__module__}.{type(self.model).__qualname__}"
        return digest_of([kind, digest_of_tensors(self.model.state_dict())])


@dataclass(frozen=True)
class CatalogEntry:
    """A model that can be loaded by name."""

    name: str
    summary: str
    load: Callable[[int], Task]  # seed -> task
    missing: Callable[[], str | None]  # None, or what to do before it can be loaded
    card: Callable[[], Mapping[str, Any] | None]
    sensitivity: Callable[[], Mapping[str, Any] | None] = lambda: None  # a finished sweep


def catalog() -> dict[str, CatalogEntry]:
    """All models that installed packages offer under the entry points `sparsity_core.models`."""
    found: dict[str, CatalogEntry] = {}
    for point in entry_points(group=_ENTRY_POINTS):
        found |= point.load()
    return found


def load_task(reference: str, seed: int = 0) -> Task:
    """The task that a catalog name or `package.module:factory` stands for.

    A factory takes no argument, or `seed`, and returns a Task. Raises SparsityError for what is
    unknown, absent or of another type. Only name modules you trust: they are imported.
    """
    if ":" in reference:
        return _from_factory(reference, seed)
    known = catalog()
    if reference not in known:
        raise unknown("model", reference, known)
    if reason := known[reference].missing():
        raise SparsityError(f"{reference}: {reason}")
    return known[reference].load(seed)


def _from_factory(reference: str, seed: int) -> Task:
    module_name, _, factory_name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise SparsityError(
            f"{reference}: cannot import {module_name} ({error}); "
            "install the package or start where Python finds it"
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise SparsityError(f"{reference}: {module_name} has no function {factory_name!r}")
    takes_seed = "seed" in inspect.signature(factory).parameters
    task = factory(seed=seed) if takes_seed else factory()
    if not isinstance(task, Task):
        raise SparsityError(
            f"{reference}: returned {type(task).__name__}; a factory returns a sparsity_core "
            "Task(name, model, train, validation, test)"
        )
    task.model.eval()
    # Workers load the task again by its name, so the name must be the reference.
    return replace(task, name=reference)
