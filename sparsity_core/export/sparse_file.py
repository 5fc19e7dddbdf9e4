"""A sparse checkpoint: the same keys as the model's state, plain or without its zeros.

The layout `bitmask` is that of the compressed-tensors format (its `sparse-bitmask`): for a matrix
NAME.weight there are NAME.shape, NAME.compressed (the values, row by row), NAME.bitmask (a row of
bits for each row, the first column in the lowest bit) and NAME.row_offsets. That format knows
matrices only: here a convolution's weight is the matrix (outputs, all else). `csr` has no layout
there; it is NAME.shape, NAME.values, NAME.crow_indices, NAME.col_indices, as torch names them.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsity_core.errors import SparsityError, unknown
from sparsity_core.export.files import read_tensors, tensor_bytes

LAYOUTS = ("dense", "bitmask", "csr", "smallest")
Parts = dict[str, Tensor]
# A small file may not claim a tensor that fills the memory: beyond _LARGE places, a value for
# every _SPARSEST of them at least.
_LARGE, _SPARSEST = 2**28, 1000


def sparse_bytes(
    state: Mapping[str, Tensor], layout: str = "dense", settings: Mapping[str, int] | None = None
) -> bytes:
    """A safetensors file of a model's state; `read_sparse` gives every bit of it back.

    `dense` is read by anything that reads safetensors. `smallest` takes for each tensor what is
    smallest of the three. `settings` are those of a shrunk model.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    tensors: dict[str, Tensor] = {}
    layouts: dict[str, str] = {}
    for name, tensor in state.items():
        chosen, parts = _packed(tensor.detach().cpu(), layout)
        layouts |= {name: chosen} if chosen != "dense" else {}
        prefix = name if chosen == "dense" else _prefix(name)
        tensors |= {f"{prefix}.{key}" if key else prefix: part for key, part in parts.items()}
    notes: dict[str, Any] = {"layouts": layouts, "settings": dict(settings or {})}
    return tensor_bytes(tensors, notes)


def read_sparse(path: Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The state of a file, every tensor dense again, and the settings of a shrunk model.

    Reads what other programs wrote in the bitmask layout too. Raises SparsityError for a file
    whose parts do not fit together.
    """
    tensors, notes = read_tensors(path)
    layouts = notes.get("layouts", {})
    names = {_prefix(name): name for name in layouts}
    state: dict[str, Tensor] = {}
    for key in tensors:
        prefix, _, part = key.rpartition(".")
        if part in ("compressed", "values") and f"{prefix}.shape" in tensors:
            name = names.get(prefix, f"{prefix}.weight")
            state[name] = _unpacked(prefix, tensors, "bitmask" if part == "compressed" else "csr")
        elif f"{prefix}.shape" not in tensors or part not in _PARTS:
            state[key] = tensors[key]
    return state, notes.get("settings", {})


_PARTS = ("shape", "compressed", "bitmask", "row_offsets", "values", "crow_indices", "col_indices")


def _prefix(name: str) -> str:
    return name.removesuffix(".weight")


def _packed(tensor: Tensor, layout: str) -> tuple[str, Parts]:
    """How one tensor is written, and its parts; vectors and numbers stay as they are."""
    ways: dict[str, Callable[[Tensor], Parts]] = {"bitmask": _bitmask, "csr": _csr}
    dense = ("dense", {"": tensor})
    if layout == "dense" or tensor.dim() < 2 or not tensor.numel():
        return dense
    if layout != "smallest":
        return layout, ways[layout](tensor)
    packed = [(name, way(tensor)) for name, way in ways.items()]
    return min([dense, *packed], key=lambda found: _bytes(found[1]))


def _bytes(parts: Parts) -> int:
    return sum(part.numel() * part.element_size() for part in parts.values())


def _matrix(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """The tensor as (outputs, all else), and where it has any bit: -0.0 is written too."""
    matrix = tensor.reshape(len(tensor), -1).contiguous()
    bits = matrix.view(torch.uint8).reshape(*matrix.shape, -1)
    return matrix, (bits != 0).any(2)


def _bitmask(tensor: Tensor) -> Parts:
    matrix, there = _matrix(tensor)
    counts = there.sum(1)
    return {
        "shape": torch.tensor(tensor.shape),
        "compressed": matrix[there],
        "bitmask": torch.from_numpy(np.packbits(there.numpy(), axis=1, bitorder="little")),
        "row_offsets": counts.cumsum(0) - counts,
    }


def _csr(tensor: Tensor) -> Parts:
    matrix, there = _matrix(tensor)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), there.sum(1).cumsum(0)])
    return {
        "shape": torch.tensor(tensor.shape),
        "values": matrix[there],
        "crow_indices": starts.int(),
        "col_indices": there.nonzero()[:, 1].int(),
    }


def _unpacked(prefix: str, tensors: Mapping[str, Tensor], layout: str) -> Tensor:
    try:
        shape = [int(size) for size in tensors[f"{prefix}.shape"]]
        rows, columns = shape[0], math.prod(shape[1:])
        value = tensors[f"{prefix}.{'compressed' if layout == 'bitmask' else 'values'}"]
        if layout == "bitmask":
            there = _there_of_bits(tensors[f"{prefix}.bitmask"], rows, columns)
        else:
            there = _there_of_csr(tensors, prefix, rows, columns, len(value))
        if int(there.sum()) != len(value):
            raise ValueError(f"{int(there.sum())} places for {len(value)} values")
        matrix = torch.zeros(rows, columns, dtype=value.dtype)
        matrix[there] = value
        return matrix.reshape(shape)
    except (KeyError, ValueError, IndexError, RuntimeError, TypeError) as error:
        raise SparsityError(
            f"{prefix}: its {layout} parts do not fit together ({error}); export the file again"
        ) from error


def _there_of_bits(bits: Tensor, rows: int, columns: int) -> Tensor:
    if bits.shape != (rows, -(-columns // 8)) or bits.dtype != torch.uint8:
        raise ValueError(f"a bitmask of {tuple(bits.shape)} for {rows} x {columns}")
    unpacked = np.unpackbits(bits.numpy(), axis=1, count=columns, bitorder="little")
    return torch.from_numpy(unpacked.astype(bool))


def _there_of_csr(
    tensors: Mapping[str, Tensor], prefix: str, rows: int, columns: int, count: int
) -> Tensor:
    starts, places = tensors[f"{prefix}.crow_indices"].long(), tensors[f"{prefix}.col_indices"]
    steps = starts.diff()
    sound = (
        len(starts) == rows + 1 and starts[0] == 0 and starts[-1] == count and (steps >= 0).all()
    )
    inside = len(places) == count and bool(((places >= 0) & (places < columns)).all())
    if not sound or not inside:
        raise ValueError("rows or columns are out of range")
    there = torch.zeros(rows, columns, dtype=torch.bool)
    there[torch.arange(rows).repeat_interleave(steps), places.long()] = True
    return there
