"""Anybody's data behind one signature: `read_samples(where, how)`; labels are optional."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsity_core.data import Dataset, load_data
from sparsity_core.data.environment import find
from sparsity_core.data.images import is_archive
from sparsity_core.data.sources import NAMES, PREFIXES
from sparsity_core.errors import SparsityError
from sparsity_core.intake.arrays import arrays_of_idx, arrays_of_npz
from sparsity_core.intake.from_torch import is_torch_data, read_torch_data
from sparsity_core.intake.how import How
from sparsity_core.intake.packed import Packing, pack
from sparsity_core.intake.pictures import pictures
from sparsity_core.intake.text import windows

Pair = tuple[Any, Any]  # inputs, targets or None
_NAMES = {"val": "validation", "valid": "validation", "dev": "validation"}
_SPLITS = ("train", "validation", "test")
_SCORING, _CHOOSING = 0.2, 0.4  # shares of data that came undivided; the rest reports


@dataclass(frozen=True, eq=False)
class Samples:
    """Three splits of inputs (N, ...) with targets (N, ...), or None for all."""

    splits: dict[str, tuple[Tensor, Tensor | None]]
    classes: tuple[str, ...] = ()
    packing: Packing | None = None  # where the model takes several inputs
    notes: tuple[str, ...] = ()


def read_samples(where: Any, how: How = How(), seed: int = 0) -> Samples:  # noqa: B008 - frozen
    """Samples from a path, a name, a factory or what is in memory already.

    Text: a folder or archive of images, a folder of IDX files, a data set that `datasets` saved,
    `.npz`, `.csv`, `.parquet`, `.txt`, a name of `load_data`, or `module:factory`, which runs code.
    In memory: inputs, (inputs, targets), a torch Dataset or DataLoader, or a mapping of such by
    split. Several inputs come as a tuple or a mapping. Data that is not divided is divided by seed:
    a fifth scores, two fifths choose, two fifths report. Raises SparsityError with what to do.
    """
    found = _found(where, how) if isinstance(where, str | Path) else where
    classes: tuple[str, ...] = how.classes
    notes: list[str] = []
    if isinstance(found, _Found):
        classes, notes, found = found.classes or classes, list(found.notes), found.content
    if isinstance(found, Dataset):
        classes = found.classes
        found = {name: (s.inputs, s.targets) for name in _SPLITS for s in [getattr(found, name)]}
    pairs = {}
    for name, part in _by_split(found).items():
        if is_torch_data(part):
            read = read_torch_data(name, part, how)
            classes = classes or read.classes
            notes += [read.note] * bool(read.note)
            part = read.content
        pairs[name] = _pair(name, part)
    packing = None
    if any(isinstance(inputs, Mapping | tuple) for inputs, _ in pairs.values()):
        (packing, *others), pairs = _packed(pairs)
        if any(other != packing for other in others):
            raise SparsityError("the splits have other inputs than each other; give them alike")
    divided, how_divided = _divided(pairs, seed)
    if how_divided:
        notes.append(how_divided)
    return Samples(divided, classes, packing, tuple(notes))


@dataclass(frozen=True, eq=False)
class _Found:
    content: Any
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _found(where: str | Path, how: How) -> Any:
    from sparsity_core.intake import arrow, table  # they bring pandas, which most never need

    text = str(where)
    if text in NAMES or text.startswith(PREFIXES):
        return load_data(text)
    if ":" in text and not Path(text).exists():
        return _from_factory(text)
    path = find(text)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _Found(arrays_of_npz(path, how))
    if suffix in (".csv", ".parquet"):
        return _Found(*table.arrays_of_table(table.read_table(path), how))
    if suffix in (".txt", ".md"):
        return _Found(*windows(path, how))
    if path.is_dir() and arrow.is_saved_dataset(path):
        parts = arrow.table_of_dataset(path, how)
        return parts[0] if len(parts) == 1 else _Found(*parts)
    if path.is_dir() and any(path.glob("*-ubyte*")):
        return _Found(*arrays_of_idx(path, how))
    if path.is_dir() or is_archive(path):
        return _Found(*pictures(path, how))
    raise SparsityError(
        f"{path}: no data of a known kind; give a folder or archive of images, .npz, .csv, "
        ".parquet, .txt, a folder of IDX files, or module:factory"
    )


def _from_factory(reference: str) -> Any:
    module_name, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)()
    except SparsityError:
        raise
    except Exception as error:  # it is anybody's code
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SparsityError(f"data {reference}: failed ({said})") from error


def _by_split(found: Any) -> dict[str, Any]:
    if isinstance(found, Mapping):
        named = {_NAMES.get(str(name), str(name)): part for name, part in found.items()}
        if set(named) <= set(_SPLITS):
            return named
    return {"all": found}


def _pair(name: str, part: Any) -> Pair:
    """(inputs, targets or None), as tensors."""
    inputs, targets = part if isinstance(part, tuple) and len(part) == 2 else (part, None)
    if isinstance(inputs, Mapping):
        inputs = {key: _tensor(name, value) for key, value in inputs.items()}
        sizes = {len(value) for value in inputs.values()}
    elif isinstance(inputs, tuple):
        inputs = tuple(_tensor(name, value) for value in inputs)
        sizes = {len(value) for value in inputs}
    else:
        inputs = _tensor(name, inputs)
        sizes = {len(inputs)}
    if targets is not None:
        targets = _tensor(f"{name} targets", targets)
        sizes.add(len(targets))
    if len(sizes) != 1 or not min(sizes):
        raise SparsityError(
            f"{name}: {' and '.join(map(str, sorted(sizes)))} samples; give as many targets as "
            "inputs, and one at least"
        )
    return inputs, targets


def _tensor(name: str, value: Any) -> Tensor:
    """float32, or int64 for whole numbers; finite."""
    try:
        if isinstance(value, list) and value and isinstance(value[0], Tensor):
            value = torch.stack(value)  # one tensor a sample
        tensor = (
            value
            if isinstance(value, Tensor)
            else torch.from_numpy(np.require(value, requirements="W"))
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise SparsityError(f"{name}: not an array of numbers ({error})") from error
    if not tensor.dim():
        raise SparsityError(f"{name}: a single number; give an array with one entry a sample")
    if tensor.is_complex():
        raise SparsityError(f"{name}: complex numbers; give real ones")
    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point():
        return tensor.long()
    if not bool(torch.isfinite(tensor.float()).all()):
        raise SparsityError(f"{name}: holds NaN or infinity; clean the data first")
    return tensor.float().contiguous()


def _packed(pairs: Mapping[str, Pair]) -> tuple[list[Packing], dict[str, Pair]]:
    found = {name: pack(inputs) for name, (inputs, _) in pairs.items()}
    packed = {name: (found[name][1], targets) for name, (_, targets) in pairs.items()}
    return [packing for packing, _ in found.values()], packed


def _divided(
    pairs: Mapping[str, Pair], seed: int
) -> tuple[dict[str, tuple[Tensor, Tensor | None]], str]:
    """Three splits that share no sample, and a word on how they came about."""
    have = set(pairs)
    if have == set(_SPLITS):
        return {name: pairs[name] for name in _SPLITS}, ""
    if len(have) == 1:
        (pair,) = pairs.values()
        train, rest = _drawn(pair, _SCORING, seed)
        validation, test = _drawn(rest, _CHOOSING / (1 - _SCORING), seed + 1)
        how = "the data came undivided"
    elif have == {"train", "validation"}:
        train = pairs["train"]
        validation, test = _drawn(pairs["validation"], 0.5, seed)
        how = "half of validation became test"
    elif have == {"train", "test"}:
        validation, train = _drawn(pairs["train"], 0.2, seed)
        test = pairs["test"]
        how = "a fifth of train became validation"
    else:
        train, validation = _drawn(pairs["validation"], _SCORING, seed)
        test = pairs["test"]
        how = "a fifth of validation became train, which scores"
    splits = {"train": train, "validation": validation, "test": test}
    counts = ", ".join(f"{name} {len(inputs):,}" for name, (inputs, _) in splits.items())
    return splits, f"{how}; drawn by seed {seed}: {counts}"


def _drawn(pair: Pair, share: float, seed: int) -> tuple[Pair, Pair]:
    """(so many, the rest), in their own order."""
    count = len(pair[0])
    if count < 3:
        raise SparsityError(f"{count} samples cannot be divided into three splits; give more")
    part = min(max(1, round(share * count)), count - 1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    first, rest = order[:part].sort().values, order[part:].sort().values
    return _at(pair, first), _at(pair, rest)


def _at(pair: Pair, which: Tensor) -> Pair:
    inputs, targets = pair
    return inputs[which], None if targets is None else targets[which]
