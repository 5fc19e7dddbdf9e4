"""A file of weights, opened without running anything: what sets of tensors are in it."""

import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.intake.in_parts import InParts
from sparsity_core.intake.inert import Opened, Stored, open_legacy, open_zip
from sparsity_core.intake.kind import SAVE_WEIGHTS, kind_of
from sparsity_core.intake.tensor_sets import Named, beside, tensor_sets

_DAMAGED = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, OSError, RecursionError),
    # A pickle whose operations do not fit together raises whatever Python raises.
    *(AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError),
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file of weights holds."""

    path: Path
    sets: dict[str, Named]  # by place in the file; "" is its top
    beside: tuple[str, ...] = ()  # what else lies at the top
    foreign: tuple[str, ...] = ()  # classes that were not opened
    read: Callable[[Stored], Tensor] | None = None

    def tensor(self, item: Tensor | Stored | InParts) -> Tensor:
        """The numbers of one of its tensors; raises SparsityError when they are damaged."""
        if isinstance(item, Tensor):
            return item
        if isinstance(item, InParts):
            return item.make(*map(self.tensor, item.parts))
        assert self.read is not None  # whoever has stored tensors can read them
        try:
            return self.read(item)
        except SparsityError as error:
            raise SparsityError(f"{self.path}: {error}") from error
        except (KeyError, OSError, zipfile.BadZipFile) as error:
            raise SparsityError(
                f"{self.path}: a tensor's numbers are not there ({error}); fetch it again"
            ) from error


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open `.safetensors`, or `.pt`, `.pth`, `.th` of any torch; nothing in the file is executed.

    First torch's own `weights_only=True`. What it refuses, for it names classes that torch does not
    know, is read with inert stand-ins: the tensors are there, the classes are listed in `foreign`.
    Raises SparsityError for anything else, with what to do instead.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "safetensors":
        return _of_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        opened = Opened(content, (), _unread)
    except Exception:  # noqa: BLE001 - whatever it is, the second reader says what is wrong
        opened = _open_inert(path, kind)
    sets = tensor_sets(opened.content)
    if not sets:
        foreign = f"; it names {', '.join(opened.foreign[:8])}" if opened.foreign else ""
        raise SparsityError(f"{path}: no tensors by name are in it{foreign}; {SAVE_WEIGHTS}")
    return Checkpoint(path, sets, beside(opened.content), opened.foreign, opened.read)


def _of_safetensors(path: Path) -> Checkpoint:
    try:
        return Checkpoint(path, {"": dict(load_file(path))})
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        raise SparsityError(f"{path}: damaged safetensors ({error}); fetch it again") from error


def _open_inert(path: Path, kind: str) -> Opened:
    try:
        return open_zip(path) if kind == "zip" else open_legacy(path)
    except SparsityError:
        raise
    except _DAMAGED as error:
        raise SparsityError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); fetch it again, or "
            f"{SAVE_WEIGHTS}"
        ) from error


def _unread(stored: Stored) -> Tensor:
    raise AssertionError(stored)  # torch read all tensors itself
