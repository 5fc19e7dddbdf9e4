"""All levels of a linear layer in one pass over its weights.

The masks of a sweep lie within each other. Summed in the order "kept longest first", with the sum
written down wherever a level ends, every weight is used once for all levels. Samples are the
lanes of the vectors, so a weight reads neighbouring floats wherever its input is.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparsity_core.kernels.compiled import compiled, scratch, spread_parts
from sparsity_core.kernels.instructions import (
    float_at,
    fma,
    int_at,
    load,
    move,
    spread,
    store,
    zeros,
)
from sparsity_core.kernels.panels import turn_tile
from sparsity_core.kernels.transpose import turn_out
from sparsity_core.kernels.vector import LANES

_WIDE = 256  # bytes: the 64 samples of a panel; twice as many are no faster, and worse for few
_STARTS = tuple(range(0, _WIDE, 4 * LANES))  # of its vectors, of each of which a sum is in hand


def survivals(masks: Sequence[Tensor]) -> Tensor | None:
    """At how many levels each weight stays, one byte, of the masks' shape.

    None unless each mask lies within the one before it.
    """
    codes = torch.zeros(masks[0].shape, dtype=torch.uint8)
    for mask in masks:
        codes += mask
    nested = all(torch.equal(codes > level, mask) for level, mask in enumerate(masks))
    return codes if nested else None


class NestedLinear:
    """A linear layer at each of up to 255 levels: a weight is there while its code is greater.

    `weight`: (outputs, inputs) float32; `codes`: as `survivals` has them; `bias`: (outputs,).
    """

    def __init__(self, weight: Tensor, codes: Tensor, levels: int, bias: Tensor | None) -> None:
        self.levels = levels
        self.outputs, self.inputs = weight.shape
        self.bias = torch.zeros(self.outputs) if bias is None else bias.detach().float().clone()
        first_gone = np.argsort(levels - codes.numpy(), axis=1, kind="stable")  # radix: one byte
        order = torch.from_numpy(first_gone)
        self.places = (order * _WIDE).int()  # of the inputs in a panel
        self.values = weight.detach().gather(1, order)
        ends = [(codes > level).sum(1) for level in reversed(range(levels))]
        self.ends = torch.stack(ends, 1).int()  # (outputs, levels), sparsest first

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs (levels, ..., outputs) of inputs (..., inputs)."""
        shape = (self.levels, *x.shape[:-1], self.outputs)
        x = x.reshape(-1, self.inputs).contiguous()
        samples = len(x)
        y = torch.empty(self.levels, samples, self.outputs)
        panel = _WIDE // 4
        room = _WIDE * LANES * (-(-self.inputs // LANES) + self.levels)  # a panel, its sums
        panels = -(-samples // panel)
        threads = torch.get_num_threads()
        buffers = scratch(room * panels)  # only the first of each thread's is touched
        fixed = (x.data_ptr(), samples, self.inputs, y.data_ptr(), self.outputs, self.levels)
        parts = (self.values, self.places, self.ends, self.bias)
        addresses = [part.data_ptr() for part in parts]
        spread_parts(_panels, panels, threads, *fixed, *addresses, buffers, room)
        return y.view(shape)


@compiled
def _panels(  # type: ignore[no-untyped-def]
    x, samples, inputs, y, outputs, levels, values, places, ends, bias, buffers, room, first, end
):
    """The outputs for the panels first..end, with the room of the first of them to work in."""
    panel = buffers + room * first
    sums = panel + room - _WIDE * LANES * levels
    apart = 4 * samples * outputs
    for p in range(first, end):
        start = p * (_WIDE // 4)
        left = min(samples - start, _WIDE // 4)
        turn_tile(x + 4 * inputs * start, left, _WIDE, panel, inputs, inputs, 0)
        for n in range(0, outputs, LANES):
            count = min(LANES, outputs - n)
            for row in range(n, n + count):
                own = sums + _WIDE * (row - n)
                _sum_row(row, inputs, levels, values, places, ends, bias, panel, own)
            for level in range(levels):
                source = sums + _WIDE * LANES * level
                target = y + apart * (levels - 1 - level) + 4 * (outputs * start + n)
                for s in range(0, left, LANES):
                    last = min(left - s, LANES) - 1
                    to = target + 4 * outputs * s
                    turn_out(source + 4 * s, _WIDE, last, count, to, 4 * outputs)


@compiled
def _sum_row(row, inputs, levels, values, places, ends, bias, panel, sums):  # type: ignore[no-untyped-def]
    """One output's sums for a panel, written after each level, the sparsest first."""
    total = fma(zeros(_STARTS), zeros(0), spread(float_at(bias + 4 * row)))
    value, place = values + 4 * inputs * row, places + 4 * inputs * row
    here = 0
    for level in range(levels):
        end = int_at(ends + 4 * (levels * row + level))
        for i in range(here, end):
            source = move(_STARTS, panel + int_at(place + 4 * i))
            total = fma(spread(float_at(value + 4 * i)), load(source), total)
        store(move(_STARTS, sums + _WIDE * LANES * level), total)
        here = end
