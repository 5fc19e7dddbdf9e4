"""Samples that come as arrays: npz and IDX files."""

from pathlib import Path
from typing import Any

import numpy as np

from sparsity_core.data.arrays import read_npz
from sparsity_core.data.idx import FILES, find_idx, read_idx
from sparsity_core.errors import SparsityError
from sparsity_core.intake.how import How

TARGETS = ("y", "label", "labels", "target", "targets")  # what they are called among arrays


def arrays_of_npz(path: Path, how: How) -> Any:
    """`x` and, where there is one, `y`; other arrays than these are several inputs by name.

    Arrays called `train_x`, `test_y` and so on are splits.
    """
    found = read_npz(path)
    splits = {
        split: {
            n.removeprefix(f"{split}_"): a for n, a in found.items() if n.startswith(f"{split}_")
        }
        for split in ("train", "val", "validation", "test")
    }
    given = {split: _pair(path, arrays, how) for split, arrays in splits.items() if arrays}
    return given or _pair(path, found, how)


def _pair(path: Path, arrays: dict[str, np.ndarray], how: How) -> tuple[Any, Any]:
    label = how.label or next((name for name in TARGETS if name in arrays), "")
    if how.label and how.label not in arrays:
        raise SparsityError(f"{path}: no array {how.label!r}; it has {', '.join(arrays)}")
    inputs = {n: shaped(a, how, f"{path} {n}") for n, a in arrays.items() if n != label}
    if not inputs:
        raise SparsityError(f"{path}: no inputs; name them x")
    x = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    return x, arrays.get(label)


def arrays_of_idx(folder: Path, how: How) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """The pairs of files of an MNIST-like data set; images in 0..1, normalised as told."""
    found: dict[str, Any] = {}
    for split, (images, labels) in FILES.items():
        place, named = find_idx(folder, images), find_idx(folder, labels)
        if place is not None:
            x = read_idx(place)
            x = x[:, None] if x.ndim == 3 else x
            found[split] = shaped(x, how, str(place)), read_idx(named) if named else None
    if not found:
        raise SparsityError(f"{folder}: no {FILES['test'][0]} or {FILES['train'][0]} in it")
    return found, how.classes, (normalisation(how),)


def shaped(x: np.ndarray, how: How, what: str) -> np.ndarray:
    """Inputs of the size and the normalisation that were asked for.

    Pictures with their channels last are turned where channels first are asked for. Whole numbers
    of one byte are pixels: they become 0..1. Others stay as they are, and become (x - mean) / std
    when these are given.
    """
    if how.input_size and x.shape[1:] != how.input_size:
        if (x.shape[-1], *x.shape[1:-1]) == how.input_size:
            x = np.moveaxis(x, -1, 1)
        elif int(np.prod(x.shape[1:])) != int(np.prod(how.input_size)):
            raise SparsityError(
                f"{what}: samples are {x.shape[1:]}, asked for {how.input_size}; "
                "they hold another count of numbers"
            )
        x = x.reshape(len(x), *how.input_size)
    if x.dtype == np.uint8:
        x = x.astype(np.float32) / 255
    return normalised(x, how) if how.mean or how.std else x


def normalised(x: np.ndarray, how: How) -> np.ndarray:
    """(x - mean) / std for each channel of (N, C, ...)."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean = np.array(how.mean or (0.0,), np.float32).reshape(shape)
    std = np.array(how.std or (1.0,), np.float32).reshape(shape)
    if {mean.shape[1], std.shape[1]} - {1, x.shape[1]}:
        raise SparsityError(
            f"mean has {mean.shape[1]} numbers and std {std.shape[1]}, but samples have "
            f"{x.shape[1]} channels; give one number, or one a channel"
        )
    return (x.astype(np.float32) - mean) / std


def normalisation(how: How) -> str:
    """A word on the normalisation, for it is the commonest mistake."""
    if not how.mean and not how.std:
        return "pixels are 0 to 1, not normalised; say --mean and --std if the model wants it"
    return f"normalised by mean {how.mean or (0.0,)} and std {how.std or (1.0,)}"
