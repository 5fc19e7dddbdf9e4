"""Samples in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from sparsity_core.digest import digest_of_tensors
from sparsity_core.errors import SparsityError


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs (N, ...) float32 and targets (N,) int64."""

    inputs: Tensor
    targets: Tensor
    name: str = "split"  # for errors

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise SparsityError(
                f"{self.name}: {len(self.inputs)} inputs but {len(self.targets)} targets; "
                "give one target each"
            )

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def digest(self) -> str:
        """A name of the content: every byte of inputs and targets."""
        return digest_of_tensors({"inputs": self.inputs, "targets": self.targets})

    def take(self, which: Tensor | int) -> "Split":
        """The samples at the given indices, or the first so many."""
        chosen = slice(which) if isinstance(which, int) else which
        return Split(self.inputs[chosen], self.targets[chosen], self.name)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples in order, `size` at a time; the last batch may be smaller."""
        yield from zip(self.inputs.split(size), self.targets.split(size), strict=True)

    def to(self, device: str) -> "Split":
        """The same samples on a device."""
        return Split(self.inputs.to(device), self.targets.to(device), self.name)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits: train scores and trains, validation chooses, test reports."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    source: str  # one line: where the samples come from
