"""From checked arrays to the three splits of a data set."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import numpy as np
import torch

from sparsity_core.data.remembered import remembered
from sparsity_core.data.split import Dataset, Split
from sparsity_core.digest import digest_of_tensors
from sparsity_core.errors import SparsityError

Arrays = tuple[np.ndarray, np.ndarray]  # inputs (N, ...), labels (N,)
Prepare = Callable[[np.ndarray], np.ndarray]  # inputs as stored -> inputs as the model sees them

_GIVEN = ({"train"}, {"train", "test"}, {"train", "validation", "test"})
_LARGEST_VALIDATION = 5000
_SKLEARN = version("scikit-learn")  # draws


def dataset(
    name: str,
    found: Mapping[str, Arrays],
    classes: Sequence[str],
    source: str,
    seed: int,
    prepare: Prepare = np.asarray,
) -> Dataset:
    """A data set from what was found for each split; splits that are absent are drawn by seed.

    Without test: 60 % train, 20 % validation, 20 % test. Without validation: a tenth of train,
    5,000 samples at most. Every draw keeps the shares of the classes. Raises SparsityError for
    labels out of range, classes without samples, NaN, or unequal lengths.
    """
    if set(found) not in _GIVEN:
        raise SparsityError(
            f"{name}: has {' and '.join(sorted(found)) or 'no splits'} only; give train, train and "
            "test, or train, validation and test"
        )
    for split, (inputs, labels) in found.items():
        _check(f"{name} {split}", inputs, labels, classes)
    _check_all_present(f"{name} train", found["train"][1], classes)
    splits = {
        split: _split(f"{name} {split}", prepare(inputs), labels)
        for split, (inputs, labels) in _divided(found, name, seed).items()
    }
    return Dataset(name, **splits, classes=tuple(classes), source=source)


def _divided(found: Mapping[str, Arrays], name: str, seed: int) -> dict[str, Arrays]:
    parts = dict(found)
    if "test" not in parts:
        parts["train"], parts["test"] = _drawn(parts["train"], 0.2, name, seed)
        parts["train"], parts["validation"] = _drawn(parts["train"], 0.25, name, seed)
    if "validation" not in parts:
        labels = parts["train"][1]
        part = min(_LARGEST_VALIDATION, max(len(np.unique(labels)), len(labels) // 10))
        parts["train"], parts["validation"] = _drawn(parts["train"], part, name, seed)
    return parts


def _drawn(arrays: Arrays, part: float | int, name: str, seed: int) -> tuple[Arrays, Arrays]:
    """(rest, part), where `part` is a share or a number of samples."""
    inputs, labels = arrays

    def draw() -> Mapping[str, np.ndarray]:
        from sklearn.model_selection import train_test_split  # takes 2 s to load

        try:
            rest, drawn = train_test_split(
                np.arange(len(labels)), test_size=part, random_state=seed, stratify=labels
            )
        except ValueError as error:
            raise SparsityError(
                f"{name}: {len(labels)} samples cannot be split by class ({error}); add samples"
            ) from error
        return {"rest": np.sort(rest), "drawn": np.sort(drawn)}

    key = [
        digest_of_tensors({"labels": torch.from_numpy(labels.astype(np.int64))}),
        part,
        seed,
        _SKLEARN,
    ]
    found = remembered("division", key, draw)
    rest, drawn = found["rest"], found["drawn"]
    return (inputs[rest], labels[rest]), (inputs[drawn], labels[drawn])


def _check(what: str, inputs: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    if inputs.ndim < 2 or labels.ndim != 1 or len(inputs) != len(labels):
        raise SparsityError(
            f"{what}: inputs have shape {inputs.shape}, labels {labels.shape}; give (N, ...) and "
            "(N,), one label a sample"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise SparsityError(f"{what}: labels are {labels.dtype}; give whole numbers from 0")
    if inputs.dtype.kind not in "fiub":
        raise SparsityError(f"{what}: inputs are {inputs.dtype}; give numbers")
    if not inputs.size:
        raise SparsityError(f"{what}: no samples")
    wrong = labels[(labels < 0) | (labels >= len(classes))]
    if len(wrong):
        raise SparsityError(f"{what}: label {wrong[0]} is out of range for {len(classes)} classes")


def _check_all_present(what: str, labels: np.ndarray, classes: Sequence[str]) -> None:
    for name, count in zip(classes, np.bincount(labels, minlength=len(classes)), strict=True):
        if not count:
            raise SparsityError(f"{what}: class {name} has no samples; add some or leave it out")


def _split(what: str, inputs: np.ndarray, labels: np.ndarray) -> Split:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused
        ready = np.ascontiguousarray(inputs, dtype=np.float32)
    if not np.isfinite(ready).all():
        raise SparsityError(f"{what}: inputs hold NaN or infinity; clean the data first")
    return Split(torch.from_numpy(ready), torch.from_numpy(labels.astype(np.int64)), what)
