"""Rows of nearly equal length side by side, 16 outputs wide, each weight with a 16-bit index."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.kernels.compiled import by_samples, check_threads, compiled, padded_bias
from sparsity_core.kernels.instructions import (
    add,
    fma,
    gather,
    int_at,
    load,
    move,
    only,
    prefetch,
    short_at,
    shorts_at,
    store,
    store_part,
    zeros,
)
from sparsity_core.kernels.kernel import KERNELS, Kernel, Parts, Product
from sparsity_core.kernels.vector import LANES
from sparsity_core.structures import ConstantFanIn, Structure

_AHEAD = 2048  # bytes of values asked for before they are used
_STREAMS = ("starts", "lanes", "places", "values")


@KERNELS.register("ell")
@dataclass(frozen=True)
class Ell(Kernel):
    """Any mask, best with equally many weights in each output; for batch 1 at 95 % and more.

    The condensed form of constant fan-in (Lasby et al. 2024, arXiv 2305.02299) with 16 outputs
    interleaved, so that one gather feeds all 16. Below 95 % an EPYC's gather is slower than
    `permute`. 6 bytes a weight; a group of 16 outputs is as long as its longest.
    """

    finds: ClassVar[str] = "gather"
    threads: int = 1

    def __post_init__(self) -> None:
        check_threads(self.threads)

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Inputs are counted in 16 bits."""
        return f"takes at most 65536 inputs, got {shape[1]}" if shape[1] > 65536 else None

    def pattern(self, sparsity: float) -> Structure:  # noqa: ARG002
        """Constant fan-in."""
        return ConstantFanIn()

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """For groups of 16 outputs: steps of one weight of each.

        `starts` (groups + 1, 2): the first step of a group, and how many of its steps all 16 have.
        `lanes`: a bit for each output that has a weight in a step. `places`, `values`: (steps, 16).
        """
        groups = -(-len(weight) // LANES)
        kept = F.pad(mask, (0, 0, 0, groups * LANES - len(weight))).unflatten(0, (groups, LANES))
        counts = kept.sum(2).numpy()  # (groups, 16)
        longest = counts.max(1)
        starts = np.zeros((groups + 1, 2), np.int64)
        starts[1:, 0], starts[:-1, 1] = longest.cumsum(), counts.min(1)
        group, lane, place = kept.numpy().nonzero()
        rank = (kept.cumsum(2) - 1).numpy()[group, lane, place]
        step = starts[group, 0] + rank
        shape = (int(longest.sum()), LANES)
        places, values = np.zeros(shape, np.uint16), np.zeros(shape, np.float32)
        places[step, lane] = place
        values[step, lane] = weight.numpy()[group * LANES + lane, place]
        lanes = np.bincount(step, 2.0**lane, shape[0])
        return {
            "starts": torch.from_numpy(starts.astype(np.int32)),
            "lanes": torch.from_numpy(lanes.astype(np.uint16)),
            "places": torch.from_numpy(places),
            "values": torch.from_numpy(values),
        }

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values at their places."""
        starts, lanes, places, values = (parts[name].numpy() for name in _STREAMS)
        group = np.repeat(np.arange(len(starts) - 1), np.diff(starts[:, 0]))
        step, lane = (lanes[:, None] >> np.arange(LANES, dtype=np.uint16) & 1).nonzero()
        at = (group[step] * LANES + lane, places[step, lane].astype(np.int64))
        weight, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
        weight[at], mask[at] = values[step, lane], True
        return torch.from_numpy(weight), torch.from_numpy(mask)

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """4 samples at a time."""
        outputs = shape[0]
        streams = [parts[name] for name in _STREAMS]
        fixed = (padded_bias(bias, outputs), *streams, outputs)
        return by_samples(outputs, _product, -(-outputs // LANES), self.threads, *fixed)


@compiled
def _product(x, y, bias, starts, lanes, places, values, outputs, first, end):  # type: ignore[no-untyped-def]
    for group in range(first, end):
        begin = int_at(starts + 8 * group)
        steps = int_at(starts + 8 * group + 8) - begin
        whole = int_at(starts + 8 * group + 4)
        value = values + 64 * begin
        place = places + 32 * begin
        even = add(zeros(x), load(bias + 64 * group))
        odd = zeros(x)  # two sums: one would wait for itself
        for _ in range(whole // 2):
            prefetch(value + _AHEAD)
            prefetch(value + _AHEAD + 64)
            even = fma(load(value), gather(x, shorts_at(place)), even)
            odd = fma(load(value + 64), gather(x, shorts_at(place + 32)), odd)
            value += 128
            place += 64
        for step in range(whole // 2 * 2, steps):
            bits = short_at(lanes + 2 * (begin + step))
            even = fma(load(value), only(bits, gather(x, shorts_at(place))), even)
            value += 64
            place += 32
        if LANES * (group + 1) <= outputs:
            store(move(y, 64 * group), add(even, odd))
        else:
            store_part(move(y, 64 * group), add(even, odd), outputs - LANES * group)
