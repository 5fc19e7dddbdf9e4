"""Single weights for few samples: 32 inputs at a time stay in registers and a permute picks."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.kernels.compiled import (
    by_samples,
    check_threads,
    compiled,
    padded_bias,
)
from sparsity_core.kernels.instructions import (
    add,
    bytes_at,
    count_bits,
    expand,
    fma,
    int_at,
    load,
    load_part,
    move,
    only,
    permute,
    prefetch,
    short_at,
    store,
    store_part,
    zeros,
)
from sparsity_core.kernels.kernel import KERNELS, Kernel, Parts, Product
from sparsity_core.kernels.vector import LANES
from sparsity_core.structures import Structure

WIDTH = 32  # inputs in a block: two registers of 16, the table of one permute
_AHEAD = 4096  # bytes of values asked for before they are used: 5 % faster cold than 1024
_STREAMS = ("starts", "runs", "blocks", "lanes", "places", "values")


@KERNELS.register("permute")
@dataclass(frozen=True)
class Permute(Kernel):
    """Any mask: 16 outputs side by side, of 32 inputs at a time; for batches of 1 to 4.

    A step takes at most one weight of each of 16 outputs. All their inputs lie in two registers,
    so one permute finds them, where a gather reads memory 16 times. Lanes without a weight in a
    step are masked out and store no value. Blocks of equally many steps stand together, or the
    CPU would guess the end of each block wrongly. 4 bytes a value and 18 a step.
    """

    finds: ClassVar[str] = "permute"
    threads: int = 1

    def __post_init__(self) -> None:
        check_threads(self.threads)

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Blocks are counted in 16 bits."""
        return "takes at most 2097120 inputs" if shape[1] > 65535 * WIDTH else None

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """For groups of 16 outputs: runs of blocks with equally many steps, and their steps.

        `starts` (groups + 1, 4): the first value, step, block and run of each group. `runs`: steps
        in a block, number of blocks. `lanes`: a bit for each output that has a weight in the step.
        `places` (steps, 16): the input of each within its block.
        """
        outputs, inputs = weight.shape
        groups, blocks = -(-outputs // LANES), -(-inputs // WIDTH)
        padded = F.pad(mask, (0, blocks * WIDTH - inputs, 0, groups * LANES - outputs))
        kept = padded.numpy().reshape(groups, LANES, blocks, WIDTH)
        steps = kept.sum(3).max(1)  # (groups, blocks)
        order = np.argsort(steps, axis=1, kind="stable")
        sorted_steps = np.take_along_axis(steps, order, 1)
        first = np.empty_like(steps)  # the first step of each block
        ends = sorted_steps.cumsum().reshape(steps.shape)
        np.put_along_axis(first, order, ends - sorted_steps, 1)

        group, lane, block, place = kept.nonzero()
        rank = (kept.cumsum(3) - 1)[group, lane, block, place]
        slot = (first[group, block] + rank) * LANES + lane
        places = np.zeros(int(steps.sum()) * LANES, np.uint8)
        places[slot] = place
        lanes = np.bincount(slot // LANES, 2.0**lane, len(places) // LANES)
        values = weight.numpy()[group * LANES + lane, block * WIDTH + place][np.argsort(slot)]

        used = sorted_steps > 0
        owner = np.repeat(np.arange(groups), used.sum(1))
        counts = sorted_steps[used]
        new = np.ones(len(counts), bool)
        new[1:] = (np.diff(owner) != 0) | (np.diff(counts) != 0)
        length = np.diff(np.append(new.nonzero()[0], len(counts)))
        starts = np.zeros((groups + 1, 4), np.int64)
        for i, sizes in enumerate(
            (kept.sum((1, 2, 3)), steps.sum(1), used.sum(1), np.bincount(owner[new], None, groups))
        ):
            starts[1:, i] = sizes.cumsum()
        return {
            "starts": torch.from_numpy(starts.astype(np.int32)),
            "runs": torch.from_numpy(np.stack([counts[new], length], 1).astype(np.uint16)),
            "blocks": torch.from_numpy(order[used].astype(np.uint16)),
            "lanes": torch.from_numpy(lanes.astype(np.uint16)),
            "places": torch.from_numpy(places),
            # 16 more may be read than are used.
            "values": torch.from_numpy(np.append(values, np.zeros(LANES, np.float32))),
        }

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values at their places."""
        part = {name: parts[name].numpy() for name in _STREAMS}
        runs = part["runs"].reshape(-1, 2).astype(np.int64)
        in_block = np.repeat(runs[:, 0], runs[:, 1])
        block = np.repeat(part["blocks"].astype(np.int64), in_block)
        group = np.repeat(np.arange(len(part["starts"]) - 1), np.diff(part["starts"][:, 1]))
        bits = part["lanes"][:, None] >> np.arange(LANES, dtype=np.uint16) & 1
        step, lane = bits.nonzero()
        rows = group[step] * LANES + lane
        columns = block[step] * WIDTH + part["places"].reshape(-1, LANES)[step, lane]
        weight, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
        weight[rows, columns], mask[rows, columns] = part["values"][:-LANES], True
        return torch.from_numpy(weight), torch.from_numpy(mask)

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """4 samples at a time."""
        outputs, inputs = shape
        streams = [parts[name] for name in _STREAMS]
        fixed = (padded_bias(bias, outputs), *streams, inputs, outputs)
        return by_samples(outputs, _product, -(-outputs // LANES), self.threads, *fixed)


@compiled
def _product(  # type: ignore[no-untyped-def]
    x, y, bias, starts, runs, blocks, lanes, places, values, inputs, outputs, first, end
):
    values += 4 * int_at(starts + 16 * first)
    lanes += 2 * int_at(starts + 16 * first + 4)
    places += 16 * int_at(starts + 16 * first + 4)
    blocks += 2 * int_at(starts + 16 * first + 8)
    runs += 4 * int_at(starts + 16 * first + 12)
    whole = inputs // WIDTH
    rest = inputs % WIDTH
    for group in range(first, end):
        even = add(zeros(x), load(bias + 64 * group))
        odd = zeros(x)  # two sums: one would wait for itself
        for _ in range(int_at(starts + 16 * group + 28) - int_at(starts + 16 * group + 12)):
            steps = short_at(runs)
            count = short_at(runs + 2)
            runs += 4
            for _ in range(count):
                block = short_at(blocks)
                blocks += 2
                inputs_at = move(x, 4 * WIDTH * block)
                if block < whole:
                    low = load(inputs_at)
                    high = load(move(inputs_at, 64))
                else:
                    low = load_part(inputs_at, rest)
                    high = load_part(move(inputs_at, 64), rest - LANES)
                prefetch(values + _AHEAD)
                prefetch(values + _AHEAD + 64)
                for _ in range(steps // 2):
                    bits = short_at(lanes)
                    found = only(bits, permute(low, bytes_at(places), high))
                    even = fma(expand(values, bits), found, even)
                    values += 4 * count_bits(bits)
                    bits = short_at(lanes + 2)
                    found = only(bits, permute(low, bytes_at(places + 16), high))
                    odd = fma(expand(values, bits), found, odd)
                    values += 4 * count_bits(bits)
                    lanes += 4
                    places += 32
                if steps % 2:
                    bits = short_at(lanes)
                    found = only(bits, permute(low, bytes_at(places), high))
                    even = fma(expand(values, bits), found, even)
                    values += 4 * count_bits(bits)
                    lanes += 2
                    places += 16
        if LANES * (group + 1) <= outputs:
            store(move(y, 64 * group), add(even, odd))
        else:
            store_part(move(y, 64 * group), add(even, odd), outputs - LANES * group)
