"""Samples of a torch Dataset or DataLoader, read into memory once, in the data's own order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from sparsity_core.errors import SparsityError
from sparsity_core.intake.arrays import TARGETS
from sparsity_core.intake.how import How

_MEMORY = 2 << 30  # bytes that a data set may take, unless a limit is given
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Read:
    """What was read: inputs, or (inputs, targets); the names of the classes; a word on how."""

    content: Any
    classes: tuple[str, ...] = ()
    note: str = ""


def is_torch_data(part: Any) -> bool:
    """Is it a Dataset or a DataLoader?"""
    return isinstance(part, Dataset | DataLoader)


def read_torch_data(name: str, part: Any, how: How) -> Read:
    """Inputs, and targets where there are some, of a Dataset or a DataLoader.

    A sample is its input, (input, target), or a mapping in which `how.label`, or `label`, `y` and
    the like, is the target. More than 2 GB, or than `how.limit`, are thinned out evenly; of data
    that can only be read in order the first are taken. Raises SparsityError for anything else.
    """
    data = part.dataset if isinstance(part, DataLoader) else part
    try:
        if isinstance(data, IterableDataset):
            most = how.limit or _most(next(iter(data)))
            batches: Iterable[Any] = _first(part, most)
            note = ""
        else:
            most = how.limit or _most(data[0])
            batches, note = _spaced(part, data, most)
        content = _joined([_sides(batch, how) for batch in batches])
    except Exception as error:  # a data set is anybody's code
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SparsityError(
            f"{name}: the samples of {type(part).__name__} do not become tensors ({said}); each "
            "must be an input, or (input, target), of tensors of one shape"
        ) from error
    return Read(content, tuple(map(str, getattr(data, "classes", ()))), note and f"{name}: {note}")


def _first(part: Any, most: int) -> Iterable[Any]:
    """Batches until there are so many samples."""
    count = 0
    for batch in part if isinstance(part, DataLoader) else DataLoader(part, _BATCH):
        yield batch
        count += len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch[0])
        if count >= most:
            return


def _spaced(part: Any, data: Any, most: int) -> tuple[DataLoader[Any], str]:
    """Batches of all samples in their own order, or of so many; and a word when they are fewer."""
    count, note = len(data), ""
    if count > most:
        data = Subset(data, np.linspace(0, count - 1, most).astype(int).tolist())
        note = f"{most:,} of {count:,} samples were read, evenly spaced"
    collate = part.collate_fn if isinstance(part, DataLoader) else None
    return DataLoader(data, _BATCH, collate_fn=collate), note


def _sides(batch: Any, how: How) -> tuple[Any, Any]:
    """(inputs, targets or None) of a batch."""
    if isinstance(batch, Mapping):
        names = (how.label,) if how.label else TARGETS
        target = next((name for name in names if name in batch), None)
        inputs = {name: value for name, value in batch.items() if name != target}
        inputs = next(iter(inputs.values())) if len(inputs) == 1 else inputs
        return inputs, None if target is None else batch[target]
    if isinstance(batch, Sequence) and len(batch) in (1, 2):
        return batch[0], batch[1] if len(batch) == 2 else None
    return batch, None


def _joined(batches: Sequence[tuple[Any, Any]]) -> Any:
    inputs = _concatenated([inputs for inputs, _ in batches])
    if any(targets is None for _, targets in batches):
        return inputs
    return inputs, _concatenated([targets for _, targets in batches])


def _concatenated(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], Mapping):
        return {name: _concatenated([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], tuple | list):
        return tuple(_concatenated(list(place)) for place in zip(*parts, strict=True))
    return torch.cat(list(parts))


def _most(sample: Any) -> int:
    """Samples like this one that may be read."""
    return max(1, _MEMORY // max(1, _bytes(sample)))


def _bytes(sample: Any) -> int:
    """What a sample takes, about, as float32."""
    if isinstance(sample, Mapping):
        return sum(map(_bytes, sample.values()))
    if isinstance(sample, tuple | list):
        return sum(map(_bytes, sample))
    return 4 * (sample.numel() if isinstance(sample, Tensor) else np.size(sample))
