"""Sparse convolution without unfolding: each weight times a shifted row of pixels."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from sparsity_core.kernels.compiled import (
    check_threads,
    compiled,
    padded_bias,
    spread_parts,
)
from sparsity_core.kernels.dense_convolution import Convolution, Pair
from sparsity_core.kernels.instructions import (
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
from sparsity_core.kernels.kernel import KERNELS, Parts, Product
from sparsity_core.kernels.tiled import WIDTH, Tiled
from sparsity_core.kernels.vector import LANES

_SLACK = 8 * LANES  # positions that the last panel may compute and nobody reads


@KERNELS.register("sparse-convolution")
@dataclass(frozen=True)
class SparseConvolution(Convolution):
    """Any mask of a 2-D convolution in one group, for any number of images.

    Images are copied channel-first with one margin between neighbours. Then output position p of
    a filter is the sum over its weights of weight x pixels[offset + p], for up to 128 positions at
    once, whatever the kernel's size; a stride reads from images of every stride-th pixel. Weights
    are stored as by `tiled`; the offsets (4 bytes each) follow from the image at its first call.
    """

    threads: int = 1
    _format: ClassVar[Tiled] = Tiled()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threads(self.threads)

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """As `tiled`, with (input, kernel row, kernel column) as one axis."""
        return self._format.encode(weight.flatten(1), mask.flatten(1))

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """As `tiled`."""
        flat = (shape[0], shape[1] * shape[2] * shape[3])
        weight, mask = self._format.decode(parts, flat)
        return weight.reshape(shape), mask.reshape(shape)

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """Buffers and offsets are made for each size of image, and kept for each thread."""
        mine = threading.local()

        def run(x: Tensor) -> Tensor:
            self.check(x, shape)
            images = getattr(mine, "images", None)
            if images is None or images.size != x.shape:  # one size at a time: buffers are large
                images = mine.images = _Images(self, parts, shape, bias, x.shape)
            return images(x)

        return run


class _Images:
    """The product for images of one size: buffers with margins of zeros that are never written."""

    def __init__(
        self,
        kernel: SparseConvolution,
        parts: Parts,
        shape: tuple[int, ...],
        bias: Tensor | None,
        size: torch.Size,
    ) -> None:
        self.size = size
        self.threads = kernel.threads
        (images, inputs, height, width), (top, left) = size, kernel.padding
        self.out_height, self.out_width = kernel.output_size(shape, (height, width))
        down, across = kernel.stride
        if kernel.stride == (1, 1):
            # The margin before the next row or image serves this one as well.
            rows = max(height + top, self.out_height)
            columns = max(width + left, self.out_width)
        else:
            rows, columns = -(-(height + 2 * top) // down), -(-(width + 2 * left) // across)
        phases = down * across
        used = images * rows * columns
        self.plane = -(-used // LANES) * LANES  # aligned: 1x1 kernels took 1.3 times as long
        last = (images - 1) * rows * columns + (self.out_height - 1) * columns + self.out_width
        self.vectors = -(-last // LANES)

        # Where the weight at (input, row, column) of a kernel finds its pixel for position 0.
        r = torch.arange(shape[2]) * kernel.dilation[0]
        c = torch.arange(shape[3]) * kernel.dilation[1]
        phase = (r % down)[:, None] * across + c % across
        within = (r // down)[:, None] * columns + c // across
        per_input = (phase * self.plane + within).flatten()
        offsets = torch.arange(inputs)[:, None] * phases * self.plane + per_input
        self.offsets = (4 * offsets.flatten()[_columns(parts)]).to(torch.int32)

        reach = int(within.max()) + (top + 1) * columns + left + _SLACK
        # Margins are the same for all layers with this key, so that they may share the buffer.
        key = (size, kernel.stride, kernel.padding, self.plane, rows, columns, reach)
        self.pixels = _shared(key, inputs * phases * self.plane + reach)
        planes = self.pixels[: inputs * phases * self.plane].view(inputs, down, across, -1)
        planes = planes[..., :used].unflatten(-1, (images, rows, columns))
        self.copies = list(_copies(planes, (height, width), kernel.padding, kernel.stride))
        self.room = self.plane + _SLACK
        self.sums = _shared("sums", shape[0] * self.room)
        outputs = self.sums.view(shape[0], self.room)[:, :used]
        outputs = outputs.unflatten(-1, (images, rows, columns)).transpose(0, 1)
        self.result = outputs[:, :, : self.out_height, : self.out_width]
        self.bias = padded_bias(bias, shape[0])
        self.parts = parts
        streams = (parts["starts"], parts["runs"], parts["rows"], self.offsets, parts["values"])
        self.streams = tuple(stream.data_ptr() for stream in streams)
        self.sizes = (len(parts["starts"]) - 1, shape[0])
        # One image without margins, in whole vectors, is read and written where it lies.
        in_place = images == 1 and within.numel() == 1 and self.plane == height * width
        self.in_place = in_place and (self.out_height, self.out_width) == (height, width)
        # A kernel of one pixel reads 192 inputs a tile: of 64 positions, or they leave the cache.
        self.widest = 8 if shape[2] * shape[3] > 1 else 4

    def __call__(self, x: Tensor) -> Tensor:
        if self.in_place:
            x = x.contiguous()
            y = torch.empty(1, self.sizes[1], self.out_height, self.out_width)
            self._run(x, y, self.plane)
            return y
        for part, place in self.copies:
            place.copy_(x[part].transpose(0, 1))
        self._run(self.pixels, self.sums, self.room)
        return self.result.clone(memory_format=torch.contiguous_format)  # the buffer is used again

    def _run(self, pixels: Tensor, sums: Tensor, room: int) -> None:
        fixed = (pixels.data_ptr(), sums.data_ptr(), self.bias.data_ptr(), self.streams)
        spread_parts(self._panels, self.vectors, self.threads, *fixed, (*self.sizes, 4 * room))

    def _panels(self, *fixed_first_end: Any) -> None:
        *fixed, first, end = fixed_first_end
        while first < end:
            wide = self.widest
            while wide > end - first:
                wide //= 2
            lanes = 0 if wide == 1 else tuple(range(0, 64 * wide, 64))
            panels = (end - first) // wide
            _convolve(lanes, 64 * first, 64 * wide, panels, *fixed)
            first += wide * panels


def _shared(key: Any, size: int) -> Tensor:
    """So many floats, zero at first, which layers of this thread with the same key share.

    Buffers of their own would push each other out of the cache: 20 layers of a ResNet-20 have 4 MB.
    """
    held = getattr(_buffers, "by_key", None)
    if held is None:
        held = _buffers.by_key = WeakValueDictionary()
    found = held.get((key, size))
    if found is None:
        found = held[key, size] = torch.zeros(size)
    return found


_buffers = threading.local()


def _copies(
    planes: Tensor, image: Pair, padding: Pair, stride: Pair
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """(which pixels of an image, where they go) for each phase of a stride."""
    (height, width), (top, left), (down, across) = image, padding, stride
    for i in range(down):
        for j in range(across):
            # Row a of this phase is row down * a + i - top of the image.
            a, b = max(-(-(top - i) // down), 0), max(-(-(left - j) // across), 0)
            first, side = down * a + i - top, across * b + j - left
            rows, columns = len(range(first, height, down)), len(range(side, width, across))
            if rows and columns:
                every = slice(None)
                part = (every, every, slice(first, None, down), slice(side, None, across))
                yield part, planes[:, i, j, :, a : a + rows, b : b + columns]


def _columns(parts: Parts) -> Tensor:
    """The column of each stored weight in the flattened kernel."""
    length, many = parts["runs"].reshape(-1, 2).to(torch.int64).T
    runs = parts["starts"].to(torch.int64).diff()
    tile = torch.arange(len(runs)).repeat_interleave(runs)
    tiles = tile.repeat_interleave(length * many)
    return tiles * WIDTH + parts["places"]


@compiled
def _convolve(lanes, at, step, panels, pixels, sums, bias, streams, sizes):  # type: ignore[no-untyped-def]
    tiles, outputs, room = sizes
    for _ in range(panels):
        starts, runs, rows, offsets, values = streams
        for row in range(outputs):
            begin = fma(zeros(lanes), zeros(0), spread(float_at(bias + 4 * row)))
            store(move(lanes, sums + room * row + at), begin)
        for t in range(tiles):
            for _ in range(int_at(starts + 4 * t + 4) - int_at(starts + 4 * t)):
                length = short_at(runs)
                many = short_at(runs + 2)
                runs += 4
                for _ in range(many):
                    target = move(lanes, sums + room * short_at(rows) + at)
                    rows += 2
                    total = load(target)
                    for _ in range(length):
                        found = load(move(lanes, pixels + int_at(offsets) + at))
                        total = fma(spread(float_at(values)), found, total)
                        values += 4
                        offsets += 4
                    store(target, total)
        at += step
