"""Files that save work: whole or absent, whatever is killed and whenever.

Each is named by everything that decides its content, so a file that is lost is made again with the
same bytes, and one that is there need not be. They lie beside the store of the job that makes them,
or else beside the default one.
"""

import os
import pickle
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from sparsity_core.errors import SparsityError
from sparsity_core.folder import default_folder
from sparsity_core.unsaved import tell

_FOLDER = "checkpoints"
_LOST = 60.0  # seconds of work that a kill may cost, at most
_SAVING = 0.02  # share of the time that may go into saving
_FIRST = 1.0  # seconds of work that are not worth a file


def checkpoint_path(name: str) -> Path:
    """Where the file of a name lies."""
    return default_folder() / _FOLDER / f"{name}.pt"


def save(name: str, content: dict[str, Any]) -> None:
    """Write tensors and plain data; the file appears under its name when it is complete."""
    path = checkpoint_path(name)
    partial = _partial(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch wraps the one in the other
        raise SparsityError(
            f"{path}: cannot be written ({_reason(error)}); free space, or set SPARSITY_STORE to "
            "another folder"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)  # a full disk needs the room


def load(name: str) -> dict[str, Any] | None:
    """What was saved under a name; None when nothing was. Nothing in the file is executed."""
    path = checkpoint_path(name)
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise SparsityError(
            f"{path}: is damaged ({str(error).splitlines()[0]}); delete it, it is made again"
        ) from error
    return found


def delete(name: str) -> None:
    """Remove the file of a name, if there is one."""
    checkpoint_path(name).unlink(missing_ok=True)


def free(names: Collection[str], store: Path) -> None:
    """Remove the files of names beside a store, and what a process that died left of them."""
    for path in (store / _FOLDER).glob("*.*"):
        if path.stem in names:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise SparsityError(
                    f"{path}: cannot be deleted ({_reason(error)}); change its rights, then delete "
                    "the run"
                ) from error


def _reason(error: BaseException) -> str:
    inner: BaseException | None = error
    while inner and not isinstance(inner, OSError):
        inner = inner.__context__
    return getattr(inner, "strerror", None) or str(error).splitlines()[0]


def _partial(name: str) -> Path:
    return checkpoint_path(name).with_suffix(f".{os.getpid()}")


def under_way(point_id: str) -> str:
    """The name of what is saved of a point before its row is there."""
    return f"{point_id}-under-way"


def of_training(name: str) -> set[str]:
    """The names of what is saved of a training: on its way, and of its end for others."""
    return {name, under_way(name)}


class UnderWay:
    """Work that is saved under a name from time to time, so that a kill costs seconds of it.

    Whoever has taken what came of the work deletes the file. Without a name nothing is saved, nor
    where the file cannot be written, as is told: the work is worth more than its copy.
    """

    def __init__(self, name: str | None = None) -> None:
        """Raises SparsityError when there is a file and it is damaged."""
        self.name = name
        self.found: dict[str, Any] = (load(name) if name else None) or {}  # as it was last saved
        self.along: dict[str, Any] = {}  # goes into each save besides what is given to it
        self._last = time.monotonic()
        self._pause = min(_FIRST, _LOST)  # seconds until it is worth saving again

    @property
    def due(self) -> bool:
        """Is it time to save?"""
        return self.name is not None and time.monotonic() - self._last >= self._pause

    def save_(self, **parts: Any) -> None:
        """Save tensors and plain data in place of what was saved before."""
        if self.name is None:
            return
        started = time.monotonic()
        try:
            save(self.name, self.along | parts)
            tell("")
        except SparsityError as error:
            tell(f"{error}; until then the work goes on unsaved")
        self._last = time.monotonic()
        self._pause = min(_LOST, (self._last - started) / _SAVING)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around whatever takes up `found`: SparsityError names the file when it does not fit."""
        try:
            yield
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            if not self.found:
                raise
            raise SparsityError(
                f"{checkpoint_path(self.name or '')}: is not what was to be gone on with "
                f"({error!r}); delete it, it is made again"
            ) from error

    def delete(self) -> None:
        """Remove the file; the work is over."""
        if self.name is not None:
            delete(self.name)
