"""Balanced n:32 patterns: equally many weights in each 32 inputs of each output."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.compiled import (
    by_samples,
    check_threads,
    compiled,
    padded_bias,
)
from sparsity_core.kernels.instructions import (
    add,
    bytes_at,
    fma,
    halves_at,
    load,
    move,
    permute,
    prefetch,
    store,
    store_part,
    zeros,
)
from sparsity_core.kernels.kernel import KERNELS, Kernel, Parts, Product
from sparsity_core.kernels.vector import LANES
from sparsity_core.structures import NofM, Structure

WIDTH = 32  # inputs in a block: two registers of 16, the table of one permute
# Bytes asked for before they are used; from a cold cache 4 % faster than half of it and no places
# (18 % with bfloat16 values).
_AHEAD, _PLACES_AHEAD = 4096, 1024


@KERNELS.register("balanced")
@dataclass(frozen=True)
class Balanced(Kernel):
    """n:32 masks (and n:m, where m divides 32), float32 values; for batches of 1 to 8.

    16 outputs side by side take one weight each in every step, and one permute of two registers
    finds their inputs: nothing is gathered, counted or padded. 4 bytes a value and 1 for its place.
    """

    finds: ClassVar[str] = "permute"
    threads: int = 1

    def __post_init__(self) -> None:
        check_threads(self.threads)

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:
        """Needs such a structure and a multiple of 32 inputs."""
        return why_unbalanced(structure, shape)

    def pattern(self, sparsity: float) -> Structure:
        """The n:32 nearest to the sparsity."""
        return NofM(max(1, round(WIDTH * (1 - sparsity))), WIDTH)

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """`values` and `places`, both (groups of 16 outputs, blocks of 32 inputs, n, 16)."""
        columns = balanced_columns("balanced", mask)
        values = weight[mask].to(self.stores).reshape(columns.shape)
        return {
            "values": _side_by_side(values),
            "places": _side_by_side((columns % WIDTH).to(torch.uint8)),
        }

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values at their places."""
        outputs, inputs = shape
        values, places = (_rows(parts[name])[:outputs] for name in ("values", "places"))
        blocks = torch.arange(inputs // WIDTH)[:, None] * WIDTH
        columns = (places.long() + blocks).flatten(1)
        weight = torch.zeros(shape, dtype=self.stores).scatter_(1, columns, values.flatten(1))
        return weight, torch.zeros(shape, dtype=torch.bool).scatter_(1, columns, True)

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """4 samples at a time."""
        outputs, streams = shape[0], (parts["values"], parts["places"])
        groups, blocks, n = parts["values"].shape[:3]
        fixed = (padded_bias(bias, outputs), *streams, n, blocks, outputs)
        function = _product if self.stores == torch.float32 else _product_of_halves
        return by_samples(outputs, function, groups, self.threads, *fixed)


@KERNELS.register("balanced-bf16")
@dataclass(frozen=True)
class BalancedBf16(Balanced):
    """The same with values rounded to bfloat16, widened again in registers: 3 bytes a weight.

    Inputs, outputs and sums stay float32. Where reading the weights is the limit, 1.6 times as
    fast.
    """

    stores: ClassVar[torch.dtype] = torch.bfloat16


def why_unbalanced(structure: Structure, shape: tuple[int, ...]) -> str | None:
    """Why masks of a structure are not n:32, or None."""
    if not isinstance(structure, NofM) or WIDTH % structure.m:
        return "takes masks of n:m where m divides 32, such as 3:32"
    if shape[1] % WIDTH:
        return f"needs a multiple of {WIDTH} inputs, got {shape[1]}"
    return None


def balanced_columns(name: str, mask: Tensor) -> Tensor:
    """(outputs, blocks of 32 inputs, n): the columns that an n:32 mask keeps.

    Raises SparsityError, in a kernel's name, for a mask that is none.
    """
    outputs, inputs = mask.shape
    if inputs % WIDTH:
        raise SparsityError(
            f"{name}: {inputs} inputs are no multiple of {WIDTH}; choose permute or "
            "gpu-unstructured"
        )
    counts = mask.unflatten(1, (-1, WIDTH)).sum(2)
    n = int(counts[0, 0])
    if bool((counts != n).any()):
        row, block = (counts != n).nonzero()[0].tolist()
        raise SparsityError(
            f"{name}: output {row} keeps {int(counts[row, block])} of inputs {WIDTH * block} to "
            f"{WIDTH * block + WIDTH - 1}, output 0 keeps {n} of its first {WIDTH}; prune with "
            f"n:{WIDTH}, or choose permute or gpu-unstructured"
        )
    return mask.nonzero()[:, 1].reshape(outputs, inputs // WIDTH, n)


def _side_by_side(rows: Tensor) -> Tensor:
    """(outputs, blocks, n) -> (groups, blocks, n, 16); lanes past the last output hold zeros."""
    padded = F.pad(rows, (0, 0, 0, 0, 0, -len(rows) % LANES))
    return padded.unflatten(0, (-1, LANES)).movedim(1, 3).contiguous()


def _rows(groups: Tensor) -> Tensor:
    return groups.movedim(3, 1).flatten(0, 1)


@compiled
def _product(x, y, bias, values, places, n, blocks, outputs, first, end):  # type: ignore[no-untyped-def]
    size = LANES * n  # weights of one block
    for group in range(first, end):
        even = add(zeros(x), load(bias + 64 * group))
        odd = zeros(x)  # two sums: one would wait for itself
        value = values + 4 * size * blocks * group
        place = places + size * blocks * group
        at = move(x, 0)
        for _ in range(blocks // 2):
            low, high = load(at), load(move(at, 64))
            low2, high2 = load(move(at, 128)), load(move(at, 192))
            at = move(at, 256)
            for _ in range(n):
                prefetch(value + _AHEAD)
                prefetch(value + _AHEAD + 4 * size)
                prefetch(place + _PLACES_AHEAD)
                even = fma(load(value), permute(low, bytes_at(place), high), even)
                found = permute(low2, bytes_at(place + size), high2)
                odd = fma(load(value + 4 * size), found, odd)
                value += 64
                place += 16
            value += 4 * size
            place += size
        if blocks % 2:
            low, high = load(at), load(move(at, 64))
            for _ in range(n):
                even = fma(load(value), permute(low, bytes_at(place), high), even)
                value += 64
                place += 16
        _write(y, add(even, odd), group, outputs)


@compiled
def _product_of_halves(x, y, bias, values, places, n, blocks, outputs, first, end):  # type: ignore[no-untyped-def]
    size = LANES * n
    for group in range(first, end):
        even = add(zeros(x), load(bias + 64 * group))
        odd = zeros(x)
        value = values + 2 * size * blocks * group
        place = places + size * blocks * group
        at = move(x, 0)
        for _ in range(blocks // 2):
            low, high = load(at), load(move(at, 64))
            low2, high2 = load(move(at, 128)), load(move(at, 192))
            at = move(at, 256)
            for _ in range(n):
                prefetch(value + _AHEAD)
                prefetch(value + _AHEAD + 2 * size)
                prefetch(place + _PLACES_AHEAD)
                even = fma(halves_at(value), permute(low, bytes_at(place), high), even)
                found = permute(low2, bytes_at(place + size), high2)
                odd = fma(halves_at(value + 2 * size), found, odd)
                value += 32
                place += 16
            value += 2 * size
            place += size
        if blocks % 2:
            low, high = load(at), load(move(at, 64))
            for _ in range(n):
                even = fma(halves_at(value), permute(low, bytes_at(place), high), even)
                value += 32
                place += 16
        _write(y, add(even, odd), group, outputs)


@compiled
def _write(y, sums, group, outputs):  # type: ignore[no-untyped-def]
    if LANES * (group + 1) <= outputs:
        store(move(y, 64 * group), sums)
    else:
        store_part(move(y, 64 * group), sums, outputs - LANES * group)
