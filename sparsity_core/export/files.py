"""Files of tensors that are whole or absent; what is read is data only, and is checked."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sparsity_core.errors import SparsityError

NOTES = "sparsity"  # the entry of a safetensors header that says how to read the file


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears under its name when it is complete."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SparsityError(
            f"{path}: cannot be written ({error.strerror}); choose another folder"
        ) from error


def tensor_bytes(tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> bytes:
    """A safetensors file with notes in its header; tensors that share memory are written each."""
    own = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return save(own, {"format": "pt", NOTES: json.dumps(notes)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file and its notes (empty in a file of another program)."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        notes = json.loads(header.get(NOTES, "{}"))
    except FileNotFoundError as error:
        raise SparsityError(f"{path}: there is no such file") from error
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise SparsityError(
            f"{path}: is no safetensors file that can be read ({reason})"
        ) from error
    if not isinstance(notes, dict):
        raise SparsityError(f"{path}: its header is damaged; export the file again")
    return tensors, notes
