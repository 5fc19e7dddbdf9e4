"""Files that save work: whole or absent, whatever is killed and whenever.

Each is named by everything that decides its content, so a file that is lost is made again with the
same bytes, and one that is there need not be. They lie beside the default store.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from sparsity_core.errors import SparsityError
from sparsity_core.folder import default_folder


def checkpoint_path(name: str) -> Path:
    """Where the file of a name lies."""
    return default_folder() / "checkpoints" / f"{name}.pt"


def save(name: str, content: dict[str, Any]) -> None:
    """Write tensors and plain data; the file appears under its name when it is complete."""
    path = checkpoint_path(name)
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise SparsityError(
            f"{path}: cannot be written ({error.strerror}); free space, or set SPARSITY_STORE to "
            "another folder"
        ) from error


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
