"""Pickles of torch.save read without running anything that is in them.

A pickle is a program: it names functions and has them called. This reader knows the few that make
tensors and answers with its own stand-ins for these; every other name becomes an inert class that
takes what it is given and does nothing. No module is imported and no named function is called.
"""

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.intake.kind import SAVE_WEIGHTS

_LARGEST_PICKLE = 256 << 20  # bytes of names and structure, without the tensors
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Inert:
    """Stands for an object of a class that is not known here; holds what the pickle gave it."""

    held: dict[Any, Any]  # its attributes or items

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "Inert":
        """Takes anything."""
        made = super().__new__(cls)
        made.__dict__["held"] = {}
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Takes anything."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:  # of a class with __slots__
            state = state[0]
        self.__dict__["held"] = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__["held"][key] = value

    def append(self, _item: Any) -> None:
        """A subclass of list: its items are of no use here."""

    def extend(self, _items: Any) -> None:
        """The same."""

    def __call__(self, *_args: Any, **_kwargs: Any) -> "Inert":
        """What it would have made is as unknown as it is."""
        return Inert()

    def __hash__(self) -> int:
        return id(self)


class _Dict(dict[Any, Any]):
    """An OrderedDict, which torch gives attributes such as `_metadata`."""

    def __setstate__(self, _state: Any) -> None:
        """Attributes of a dict are of no use here."""


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class Stored:
    """A tensor that has not been read yet."""

    key: str  # of the storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Opened:
    """What a pickle holds, with `Stored` for each tensor, and the classes that were not known."""

    content: Any
    foreign: tuple[str, ...]
    read: Callable[[Stored], Tensor]


def open_zip(path: Path) -> Opened:
    """A file of torch.save since version 1.6; see `kind_of`, which comes first."""
    with zipfile.ZipFile(path) as archive:
        (main,) = [n for n in archive.namelist() if n.endswith("data.pkl") and n.count("/") <= 1]
        folder = main.removesuffix("data.pkl")
        if archive.getinfo(main).file_size > _LARGEST_PICKLE:
            raise SparsityError(f"{path}: more structure than a model can have; is it a model?")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise SparsityError(f"{path}: was written by a big-endian machine; save it again here")
        reader = _Reader(io.BytesIO(archive.read(main)))
        content = reader.load()

    def read(stored: Stored) -> Tensor:
        with zipfile.ZipFile(path) as archive:
            return _tensor(stored, archive.read(f"{folder}data/{stored.key}"))

    return Opened(content, reader.foreign_names, read)


def open_legacy(path: Path) -> Opened:
    """A file of torch.save before version 1.6: five pickles, then the storages one by one."""
    with path.open("rb") as file:
        if _Reader(file).load() != _LEGACY_MAGIC or _Reader(file).load() != _LEGACY_PROTOCOL:
            raise SparsityError(
                f"{path}: is a pickle, but none that torch.save wrote, and is not opened; "
                f"{SAVE_WEIGHTS}"
            )
        _Reader(file).load()  # of the machine that wrote it
        reader = _Reader(file)
        content = reader.load()
        keys = _Reader(file).load()
        places = _places(path, file, keys, reader.itemsizes)

    def read(stored: Stored) -> Tensor:
        start, length = places[stored.key]
        with path.open("rb") as again:
            again.seek(start)
            return _tensor(stored, again.read(length))

    return Opened(content, reader.foreign_names, read)


def _places(
    path: Path, file: BinaryIO, keys: Any, itemsizes: dict[str, int]
) -> dict[str, tuple[int, int]]:
    """Where each storage lies: a count of numbers, then so many."""
    size = path.stat().st_size
    places = {}
    for key in keys:
        header = file.read(8)
        count = struct.unpack("<q", header)[0] if len(header) == 8 else -1
        start, length = file.tell(), count * itemsizes.get(str(key), 1)
        if count < 0 or start + length > size:
            raise SparsityError(f"{path}: is cut off or lies about its sizes; fetch it again")
        places[str(key)] = (start, length)
        file.seek(start + length)
    return places


class _Reader(pickle.Unpickler):
    """Unpickles with stand-ins for everything that has a name."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.foreign: dict[str, type[Inert]] = {}
        self.itemsizes: dict[str, int] = {}

    @property
    def foreign_names(self) -> tuple[str, ...]:
        return tuple(self.foreign)

    def find_class(self, module: str, name: str, /) -> Any:
        """A stand-in for `module.name`; never the thing itself."""
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        if module == "torch" and name in _STORAGES:
            return _Storage("", _STORAGES[name])
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        full = f"{module}.{name}"
        if full not in self.foreign:
            self.foreign[full] = type("Inert", (Inert,), {"name": full})
        return self.foreign[full]

    def persistent_load(self, pid: Any, /) -> Any:
        """The storage that the pickle speaks of: ("storage", type, key, device, count, ...)."""
        kind, thing, *rest = pid
        if kind == "module":  # before 1.6: a class with its source text
            return thing
        if kind != "storage" or not isinstance(thing, _Storage):
            raise pickle.UnpicklingError(f"a storage of the unknown kind {kind!r}")
        key = str(rest[0])
        self.itemsizes[key] = thing.dtype.itemsize
        return _Storage(key, thing.dtype)


def _rebuild(storage: _Storage, offset: int, shape: Any, stride: Any, *_: Any) -> Stored:
    return Stored(storage.key, storage.dtype, offset, tuple(shape), tuple(stride))


def _rebuild_parameter(data: Stored, *_: Any) -> Stored:
    return data


def _empty_dict(*pairs: Any) -> _Dict:
    return _Dict(*pairs)


def _sizes(values: Any = ()) -> tuple[Any, ...]:
    return tuple(values)


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _empty_dict,
    ("torch", "Size"): _sizes,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


def _tensor(stored: Stored, content: bytes) -> Tensor:
    """The numbers of one tensor, checked against the bytes there are."""
    count = len(content) // stored.dtype.itemsize
    if not _fits(stored, count):
        raise SparsityError(
            f"a tensor of shape {stored.shape} does not fit the {count} numbers stored for it; "
            "the file is damaged: fetch it again"
        )
    if not math.prod(stored.shape):
        return torch.empty(stored.shape, dtype=stored.dtype)
    whole = torch.frombuffer(bytearray(content), dtype=stored.dtype, count=count)
    return whole.as_strided(stored.shape, stored.stride, stored.offset).clone()


def _fits(stored: Stored, count: int) -> bool:
    numbers = (*stored.shape, *stored.stride, stored.offset)
    if len(stored.shape) != len(stored.stride):
        return False
    if not all(isinstance(n, int) and 0 <= n <= count for n in numbers):
        return False
    steps = sum((n - 1) * step for n, step in zip(stored.shape, stored.stride, strict=True))
    # Not more numbers than there are: one could be repeated until the memory is full.
    size = math.prod(stored.shape)
    return size <= count and (not size or stored.offset + steps < count)
