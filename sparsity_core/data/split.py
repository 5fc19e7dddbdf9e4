"""Samples in memory, and how they are divided."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.model_selection import train_test_split
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


def checked_split(inputs: np.ndarray, targets: np.ndarray, classes: int, what: str) -> Split:
    """A split from arrays, with every value checked; `what` names it in errors."""
    if not len(targets):
        raise SparsityError(f"{what}: no samples")
    if not np.isfinite(inputs).all():
        raise SparsityError(f"{what}: inputs hold NaN or infinity; clean the data first")
    if targets.min() < 0 or targets.max() >= classes:
        wrong = targets[(targets < 0) | (targets >= classes)][0]
        raise SparsityError(f"{what}: label {wrong} is out of range for {classes} classes")
    return Split(
        torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32)),
        torch.from_numpy(targets.astype(np.int64)),
        what,
    )


def divide(targets: np.ndarray, share: float | int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of (rest, part), the part holding `share` samples, stratified by class and seeded."""
    indices = np.arange(len(targets))
    smallest = np.bincount(targets)[np.unique(targets)].min()
    if smallest < 2:
        raise SparsityError("a class has one sample only and cannot be split; add samples")
    rest, part = train_test_split(indices, test_size=share, random_state=seed, stratify=targets)
    return np.sort(rest), np.sort(part)
