"""Sparse weight x dense inputs for larger batches: many samples side by side, tile after tile."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.compiled import (
    check_threads,
    compiled,
    padded_bias,
    scratch,
    spread_parts,
)
from sparsity_core.kernels.instructions import (
    add,
    byte_at,
    float_at,
    fma,
    int_at,
    load,
    move,
    short_at,
    spread,
    store,
    zeros,
)
from sparsity_core.kernels.kernel import KERNELS, Kernel, Parts, Product
from sparsity_core.kernels.panels import begin, finish, turn_tile
from sparsity_core.kernels.vector import LANES
from sparsity_core.structures import Block, Structure

WIDTH = 192  # inputs in a tile: with 64 samples 48 KiB; 96 and 128 took 7 % longer on an EPYC
_STREAMS = ("starts", "runs", "rows", "places", "values")


@KERNELS.register("tiled")
@dataclass(frozen=True)
class Tiled(Kernel):
    """Any mask, for batches of 8 and more: each weight times 16 to 64 samples at once.

    192 inputs of the samples are turned sample-last into the nearest cache; every weight of the
    tile is multiplied with its row there. Outputs with equally many weights in the tile stand
    together, so that the CPU guesses the end of each loop rightly. 5 bytes a weight, 2 an output
    and tile.
    """

    height: ClassVar[int] = 1  # outputs that share their inputs
    threads: int = 1

    def __post_init__(self) -> None:
        check_threads(self.threads)

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Outputs are counted in 16 bits."""
        most = 65535 * self.height
        return f"takes at most {most} outputs, got {shape[0]}" if shape[0] > most else None

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """For tiles of inputs: runs of outputs with equally many weights, and these.

        `starts` (tiles + 1): the first run of each tile. `runs`: weights of an output, number of
        outputs. `places`: the input within its tile. A block of several outputs counts as one.
        """
        shared = self._shared(mask).numpy()
        rows, inputs = shared.shape
        tiles = -(-inputs // WIDTH)
        kept = np.pad(shared, ((0, 0), (0, tiles * WIDTH - inputs))).reshape(rows, tiles, WIDTH)
        counts = kept.sum(2).T  # (tiles, rows)
        order = np.argsort(counts, axis=1, kind="stable")
        in_order = np.take_along_axis(kept.swapaxes(0, 1), order[:, :, None], 1)
        tile, position, place = in_order.nonzero()
        values = F.pad(weight, (0, 0, 0, -len(weight) % self.height)).unflatten(0, (rows, -1))
        picked = values.numpy()[order[tile, position], :, tile * WIDTH + place]

        lengths = np.take_along_axis(counts, order, 1)
        used = lengths > 0
        owner, length = np.repeat(np.arange(tiles), used.sum(1)), lengths[used]
        new = np.ones(len(length), bool)
        new[1:] = (np.diff(owner) != 0) | (np.diff(length) != 0)
        many = np.diff(np.append(new.nonzero()[0], len(length)))
        starts = np.append(0, np.bincount(owner[new], None, tiles).cumsum())
        return {
            "starts": torch.from_numpy(starts.astype(np.int32)),
            "runs": torch.from_numpy(np.stack([length[new], many], 1).astype(np.uint16)),
            "rows": torch.from_numpy(order[used].astype(np.uint16)),
            "places": torch.from_numpy(place.astype(np.uint8)),
            "values": torch.from_numpy(np.ascontiguousarray(picked, np.float32)),
        }

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values at their places."""
        part = {name: parts[name].numpy() for name in _STREAMS}
        length, many = part["runs"].reshape(-1, 2).astype(np.int64).T
        tile_of_run = np.repeat(np.arange(len(part["starts"]) - 1), np.diff(part["starts"]))
        each = np.repeat(length, many)
        row = np.repeat(part["rows"].astype(np.int64), each)
        column = np.repeat(np.repeat(tile_of_run, many), each) * WIDTH + part["places"]
        high = -(-shape[0] // self.height)
        weight = np.zeros((high, self.height, shape[1]), np.float32)
        mask = np.zeros(weight.shape, bool)
        weight[row, :, column] = part["values"].reshape(-1, self.height)
        mask[row, :, column] = True
        whole = (torch.from_numpy(a).flatten(0, 1)[: shape[0]] for a in (weight, mask))
        return next(whole), next(whole)

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """Panels of 64 samples, or fewer where there are fewer or threads would be idle."""
        outputs, inputs = shape
        high = -(-outputs // LANES) * LANES
        biases = padded_bias(bias, outputs)
        streams = tuple(parts[name].data_ptr() for name in _STREAMS)
        fixed = (biases.data_ptr(), streams, (len(parts["starts"]) - 1, inputs, outputs))
        function = _product if self.height == 1 else _product_of_fours

        def run(x: Tensor, _held: object = (parts, biases)) -> Tensor:
            x = x.contiguous()
            y = torch.empty(len(x), outputs)
            source, target, samples = x.data_ptr(), y.data_ptr(), len(x)
            vectors = next(v for v in (1, 2, 4) if v == 4 or samples <= LANES * v * self.threads)
            panel = LANES * vectors
            lanes = 0 if vectors == 1 else tuple(range(0, 64 * vectors, 64))

            def panels(first: int, end: int) -> None:
                tile = scratch(4 * panel * (WIDTH + LANES + high))
                for at in range(panel * first, min(panel * end, samples), panel):
                    function(
                        lanes,
                        source + 4 * inputs * at,
                        target + 4 * outputs * at,
                        min(panel, samples - at),
                        4 * panel,
                        tile,
                        tile + 4 * panel * (WIDTH + LANES),
                        *fixed,
                    )

            spread_parts(panels, -(-samples // panel), self.threads)
            return y

        return run

    def _shared(self, mask: Tensor) -> Tensor:
        return mask


@KERNELS.register("blocks")
@dataclass(frozen=True)
class Blocks(Tiled):
    """Blocks of 4 outputs and 1 input (4x1, also 8x1, 4x4, ...), for batches of 8 and more.

    Like `tiled`, but inputs are read once for four outputs, which leaves the multiply-adds as the
    limit. 4.25 bytes a weight.
    """

    height: ClassVar[int] = 4

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:
        """Needs a block structure of a multiple of 4 outputs."""
        if not isinstance(structure, Block) or structure.rows % 4:
            return "takes masks of blocks with a multiple of 4 outputs, such as 4x1"
        return super().refuses(structure, shape)

    def pattern(self, sparsity: float) -> Structure:  # noqa: ARG002
        """Blocks of 4x1."""
        return Block(4, 1)

    def _shared(self, mask: Tensor) -> Tensor:
        """(fours of outputs, inputs) of a mask in which the four agree."""
        if len(mask) % 4:
            raise SparsityError(f"blocks: {len(mask)} outputs are no multiple of 4; choose tiled")
        fours = mask.unflatten(0, (-1, 4))
        if bool((fours != fours[:, :1]).any()):
            row = int((fours != fours[:, :1]).flatten(1).any(1).nonzero()[0, 0]) * 4
            raise SparsityError(
                f"blocks: outputs {row} to {row + 3} keep different inputs; prune with 4x1, or "
                "choose tiled"
            )
        return fours[:, 0].contiguous()


@compiled
def _product(lanes, x, y, samples, wide, tile, sums, bias, streams, sizes):  # type: ignore[no-untyped-def]
    starts, runs, rows, places, values = streams
    tiles, inputs, outputs = sizes
    begin(lanes, sums, bias, wide, outputs)
    for t in range(tiles):
        turn_tile(x, samples, wide, tile, inputs, WIDTH, t)
        for _ in range(int_at(starts + 4 * t + 4) - int_at(starts + 4 * t)):
            length = short_at(runs)
            many = short_at(runs + 2)
            runs += 4
            for _ in range(many):
                at = move(lanes, sums + wide * short_at(rows))
                rows += 2
                total = load(at)
                other = zeros(lanes)
                for _ in range(length // 2):
                    found = load(move(lanes, tile + wide * byte_at(places)))
                    total = fma(spread(float_at(values)), found, total)
                    found = load(move(lanes, tile + wide * byte_at(places + 1)))
                    other = fma(spread(float_at(values + 4)), found, other)
                    values += 8
                    places += 2
                if length % 2:
                    found = load(move(lanes, tile + wide * byte_at(places)))
                    total = fma(spread(float_at(values)), found, total)
                    values += 4
                    places += 1
                store(at, add(total, other))
    finish(y, samples, wide, sums, outputs)


@compiled
def _product_of_fours(lanes, x, y, samples, wide, tile, sums, bias, streams, sizes):  # type: ignore[no-untyped-def]
    starts, runs, rows, places, values = streams
    tiles, inputs, outputs = sizes
    begin(lanes, sums, bias, wide, outputs)
    for t in range(tiles):
        turn_tile(x, samples, wide, tile, inputs, WIDTH, t)
        for _ in range(int_at(starts + 4 * t + 4) - int_at(starts + 4 * t)):
            length = short_at(runs)
            many = short_at(runs + 2)
            runs += 4
            for _ in range(many):
                at = move(lanes, sums + 4 * wide * short_at(rows))
                at1, at2, at3 = move(at, wide), move(at, 2 * wide), move(at, 3 * wide)
                rows += 2
                total, total1, total2, total3 = load(at), load(at1), load(at2), load(at3)
                for _ in range(length):
                    found = load(move(lanes, tile + wide * byte_at(places)))
                    total = fma(spread(float_at(values)), found, total)
                    total1 = fma(spread(float_at(values + 4)), found, total1)
                    total2 = fma(spread(float_at(values + 8)), found, total2)
                    total3 = fma(spread(float_at(values + 12)), found, total3)
                    values += 16
                    places += 1
                store(at, total)
                store(at1, total1)
                store(at2, total2)
                store(at3, total3)
    finish(y, samples, wide, sums, outputs)
