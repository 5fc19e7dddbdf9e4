"""Operators of ONNX that only move numbers: shapes, slices, constants. See onnx_ops."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.intake.onnx_ops import checked, number, numbers, operator


@operator("Shape")
def _shape(x: Tensor, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(list(x.shape)[start:end])


@operator("Size")
def _size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel())


@operator("Reshape")
def _reshape(x: Tensor, shape: Any, allowzero: int = 0) -> Tensor:
    sizes = numbers(shape)
    return x.reshape([x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(sizes)])


@operator("Flatten")
def _flatten(x: Tensor, axis: int = 1) -> Tensor:
    if axis == 1:
        return x.flatten(1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Transpose")
def _transpose(x: Tensor, perm: Sequence[int] | None = None) -> Tensor:
    return x.permute(*(perm or range(x.dim() - 1, -1, -1)))


@operator("Squeeze")
def _squeeze(x: Tensor, axes: Any = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(numbers(axes)))


@operator("Unsqueeze")
def _unsqueeze(x: Tensor, axes: Any = ()) -> Tensor:
    places = numbers(axes)
    rank = x.dim() + len(places)
    for place in sorted(place % rank for place in places):
        x = x.unsqueeze(place)
    return x


@operator("Concat")
def _concat(*values: Tensor, axis: int) -> Tensor:
    return torch.cat(values, axis)


@operator("Split")
def _split(x: Tensor, sizes: Any = None, axis: int = 0, outputs: int = 1, **old: Any) -> Any:
    given = sizes if sizes is not None else old.get("split")
    if given is None:
        return x.split(-(-x.shape[axis] // old.get("num_outputs", outputs)), axis)
    return x.split(numbers(given), axis)


@operator("Slice")
def _slice(x: Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Tensor:
    starts, ends = numbers(starts), numbers(ends)
    places = numbers(axes) if axes is not None else range(len(starts))
    jumps = numbers(steps) if steps is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, places, jumps, strict=True):
        if step < 1:
            raise SparsityError("Slice backwards is not known here")
        x = x[(slice(None),) * (axis % x.dim()) + (slice(start, end, step),)]
    return x


@operator("Gather")
def _gather(x: Tensor, indices: Any, axis: int = 0) -> Tensor:
    places = torch.as_tensor(indices)
    places = torch.where(places < 0, places + x.shape[axis], places)
    found = x.index_select(axis, places.reshape(-1))
    return found.reshape([*x.shape[:axis], *places.shape, *x.shape[axis:][1:]])


@operator("Expand")
def _expand(x: Tensor, shape: Any) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, checked(numbers(shape))))


@operator("Tile")
def _tile(x: Tensor, repeats: Any) -> Tensor:
    times = numbers(repeats)
    checked([n * t for n, t in zip(x.shape, times, strict=True)])
    return x.repeat(times)


@operator("ConstantOfShape")
def _constant_of_shape(shape: Any, value: Any = None) -> Tensor:
    filled = torch.zeros(1) if value is None else torch.as_tensor(value)
    return filled.reshape(()).expand(checked(numbers(shape))).clone()


@operator("Range")
def _range(start: Any, end: Any, step: Any) -> Tensor:
    first, last, jump = (number(value) for value in (start, end, step))
    checked([max(0, math.ceil((last - first) / jump))])
    return torch.arange(first, last, jump)


@operator("Pad")
def _pad(x: Tensor, pads: Any = None, value: Any = None, axes: Any = None, **old: Any) -> Tensor:
    widths = numbers(pads if pads is not None else old["pads"])
    if axes is not None or old.get("mode", "constant") not in ("constant", b"constant"):
        raise SparsityError("Pad is known here with zeros or another constant, on all axes")
    rank = x.dim()
    checked([n + widths[i] + widths[rank + i] for i, n in enumerate(x.shape)])
    pairs = [side for i in reversed(range(rank)) for side in (widths[i], widths[rank + i])]
    return F.pad(x, pairs, value=number(value, old.get("value", 0.0)))
