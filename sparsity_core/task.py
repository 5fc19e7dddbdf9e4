"""A task: a trained model, the data it is measured on, and what counts as good."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_core.data import Split
from sparsity_core.digest import digest_of, digest_of_tensors
from sparsity_core.errors import SparsityError, unknown

PerSample = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> (N,)
SPLITS = ("train", "validation", "test")
_GROUP = "sparsity_core.models"


@dataclass(frozen=True)
class Metric:
    """A number for each sample; its mean over the samples is the result."""

    name: str
    per_sample: PerSample
    higher_is_better: bool = True


def _correct(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float()


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each sample, in nats: outputs (N, classes), targets (N,) -> (N,)."""
    return F.cross_entropy(outputs, targets, reduction="none")


ACCURACY = Metric("accuracy", _correct)


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
    """The task of a catalog name, or what `package.module:factory` returns.

    A factory takes nothing or `seed`. The task's name is the reference. A reference with a colon
    imports and runs code: take it from the person at the machine only. Raises SparsityError for
    an unknown name, missing data, or a module or factory that fails.
    """
    if ":" in reference:
        return replace(_from_factory(reference, seed), name=reference)
    entries = catalog()
    if reference not in entries:
        raise unknown("model", reference, entries)
    if (reason := entries[reference].missing()) is not None:
        raise SparsityError(f"{reference}: its data is missing; {reason}")
    return entries[reference].load(seed)


def _from_factory(reference: str, seed: int) -> Task:
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module may raise anything on import
        raise SparsityError(
            f"{reference}: module {module_name!r} could not be imported ({_said(error)}); "
            "install it or put its folder on PYTHONPATH"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise unknown(f"factory in {module_name}", attribute, public)
    try:
        takes_seed = "seed" in inspect.signature(factory).parameters
        task = factory(seed=seed) if takes_seed else factory()
    except SparsityError:
        raise
    except Exception as error:  # a factory is anybody's code
        raise SparsityError(f"{reference}: the factory failed ({_said(error)})") from error
    if not isinstance(task, Task):
        raise SparsityError(
            f"{reference} returned {type(task).__name__}; a factory must return a "
            "sparsity_core.task.Task(name, model, train, validation, test)"
        )
    return task


def _said(error: Exception) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
