"""Several inputs as one tensor: whatever splits, draws and batches samples sees one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError

_EXACT = 2**24  # whole numbers up to this are float32 numbers


@dataclass(frozen=True)
class Packing:
    """What lies where in a packed sample: names ("" = by position), shapes and types."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]

    def unpack(self, packed: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Positional and named inputs of a packed batch (N, numbers)."""
        ends = list(accumulate(map(math.prod, self.shapes)))
        positional, named = [], {}
        for name, shape, dtype, start, end in zip(
            self.names, self.shapes, self.dtypes, [0, *ends], ends, strict=False
        ):
            part = packed[:, start:end].reshape(-1, *shape).to(dtype)
            if name:
                named[name] = part
            else:
                positional.append(part)
        return positional, named


def pack(inputs: Mapping[str, Tensor] | tuple[Tensor, ...]) -> tuple[Packing, Tensor]:
    """The packing, and the samples (N, numbers): int64 when all inputs are, else float32.

    Raises SparsityError for whole numbers that float32 could not hold.
    """
    named = dict(inputs) if isinstance(inputs, Mapping) else {}
    parts: list[Tensor] = list(inputs.values() if isinstance(inputs, Mapping) else inputs)
    whole = all(not part.is_floating_point() for part in parts)
    for part in parts:
        if not whole and not part.is_floating_point() and int(part.abs().max()) > _EXACT:
            raise SparsityError(
                f"an input holds whole numbers above {_EXACT}, which cannot stand beside numbers "
                "with a point; number its values anew"
            )
    dtype = torch.int64 if whole else torch.float32
    flat = torch.cat([part.reshape(len(part), -1).to(dtype) for part in parts], 1)
    return (
        Packing(
            tuple(named) or ("",) * len(parts),
            tuple(tuple(part.shape[1:]) for part in parts),
            tuple(part.dtype for part in parts),
        ),
        flat,
    )
