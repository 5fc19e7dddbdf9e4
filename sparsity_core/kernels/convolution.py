"""Sparse convolution without unfolding: each weight times a shifted row of pixels."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from sparsity_core.kernels.compiled import at_once, check_threads, even_parts, padded_bias
from sparsity_core.kernels.convolve import convolve
from sparsity_core.kernels.dense_convolution import Convolution
from sparsity_core.kernels.kernel import KERNELS, Parts, Product
from sparsity_core.kernels.shifted import Layout, Spread
from sparsity_core.kernels.tiled import Tiled

Share = tuple[tuple[int, ...], int, int]  # a thread's numbers for `convolve`, vectors first..end

_CUT = 8  # vectors for each thread from which on images are cut
_TILE = 40 << 10  # bytes of pixels that a tile of channels reads for one panel of positions


@KERNELS.register("sparse-convolution")
@dataclass(frozen=True)
class SparseConvolution(Convolution):
    """Any mask of a 2-D convolution in one group, for any number of images.

    A copy of the images for each column of the kernel is shifted so that output position p of a
    filter is the sum over its weights of weight x pixels[offset + p], for up to 128 positions at
    once, whatever the kernel's size; a stride reads rows of every stride-th pixel. Weights are
    stored as by `tiled`; in the order of the work, with an offset of 4 bytes each, they are laid
    out again for the size of images that comes.
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
            if x.stride(3) != 1 and x.shape[3] > 1:
                x = x.contiguous()
            images = getattr(mine, "images", None)
            # One size at a time: buffers are large.
            if images is None or images.taken != (x.shape, x.stride()):
                images = mine.images = Images(self, parts, shape, bias, x)
            return images.fresh(x)

        return run


class Images:
    """The product for images of one size and strides, with its buffers.

    `relu`: what is below zero becomes zero. `memory`: gives so many floats for the outputs.
    """

    def __init__(
        self,
        kernel: SparseConvolution,
        parts: Parts,
        shape: tuple[int, ...],
        bias: Tensor | None,
        x: Tensor,
        *,
        relu: bool = False,
        memory: Callable[[int], Tensor] = lambda size: shared("sums", size),
    ) -> None:
        self.taken = (x.shape, x.stride())
        self.threads = kernel.threads
        self.layout = layout = Layout(kernel, shape, tuple(x.shape), x.stride())
        channel = layout.plane_of_channel
        self.spread: Spread | None = None
        self.pixels: Tensor | None = None
        if layout.in_place:
            channel = x.stride(1)
        else:
            # Margins are the same for all layers with this key, so that they may share the buffer.
            key = (layout.size, kernel.stride, kernel.padding, kernel.dilation, shape[2:])
            self.pixels = shared(key, layout.floats)
            self.spread = Spread(layout, self.pixels)
        self.sums = memory(shape[0] * layout.room)
        self.result = layout.outputs(self.sums)
        self.bias = padded_bias(bias, shape[0])
        weight, mask = kernel.decode(parts, shape)
        offsets, tile = layout.offsets(channel), layout.tile(_TILE)
        self.shares: list[Share] = []
        self._held: list[tuple[Tensor, ...]] = []
        for filters, (first, end) in _shared_out(mask, layout.vectors, self.threads):
            work = _in_order(weight, mask, filters, offsets, tile)
            self._held.append(work)
            numbers = (
                *(self.bias.data_ptr(), *(stream.data_ptr() for stream in work)),
                *(len(work[0]), 4 * layout.room, int(relu), layout.widest),
            )
            self.shares.append((numbers, first, end))

    @property
    def bytes(self) -> int:
        """Of the inputs laid out and the outputs."""
        laid_out = 0 if self.pixels is None else self.pixels.nbytes
        return laid_out + self.sums.nbytes

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The outputs, as a view of a buffer that the next call uses again.

        A residual has the strides of the outputs.
        """
        self._run(x, residual, self.sums)
        return self.result

    def fresh(self, x: Tensor) -> Tensor:
        """The outputs in memory of their own, in the usual order."""
        tall, wide = self.layout.out
        # All that is written, the last vector included, is the result.
        if self.result.is_contiguous() and self.layout.room == tall * wide and len(x) == 1:
            y = torch.empty(self.result.shape)
            self._run(x, None, y)
            return y
        return self(x).clone(memory_format=torch.contiguous_format)

    def _run(self, x: Tensor, residual: Tensor | None, sums: Tensor) -> None:
        if self.spread is not None:
            self.spread(x)
        pixels = x if self.pixels is None else self.pixels
        added = 0 if residual is None else residual.data_ptr()
        fixed = (pixels.data_ptr(), sums.data_ptr(), added)
        at_once(convolve, [(*fixed, *share) for share in self.shares])


def shared(key: Any, size: int) -> Tensor:
    """So many floats, zero at first, which layers of this thread with the same key share.

    Buffers of their own would push each other out of the cache: 20 layers of a ResNet-20 have 4 MB.
    """
    held = getattr(_buffers, "by_key", None)
    if held is None:
        held = _buffers.by_key = WeakValueDictionary()
    found = held.get((key, size))
    if found is None:
        found = held[key, size] = aligned(size)
    return found


_buffers = threading.local()


def aligned(size: int) -> Tensor:
    """So many zeros that begin on a cache line."""
    given = torch.zeros(size + 16)
    return given[-given.data_ptr() // 4 % 16 :][:size]


def _shared_out(mask: Tensor, vectors: int, threads: int) -> list[tuple[range, tuple[int, int]]]:
    """Filters and vectors of positions of each thread.

    Large images are cut: the next layer finds most of its inputs where they were made. Of small
    ones each thread takes some filters, about as many weights as the others: it reads no others.
    """
    filters = range(len(mask))
    if vectors >= _CUT * threads or threads == 1:
        return [(filters, part) for part in even_parts(vectors, threads)]
    before = torch.cat([torch.zeros(1), mask.flatten(1).sum(1).cumsum(0)])
    wanted = before[-1] * torch.arange(1, threads) / threads
    inner = torch.searchsorted(before, wanted).tolist()
    return [(range(*part), (0, vectors)) for part in pairwise([0, *inner, len(mask)])]


def _in_order(
    weight: Tensor, mask: Tensor, filters: range, offsets: Tensor, tile: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Visits (filter, weights of it, 1 for the first + 2 for the last one of it), tile of channels
    after tile; places; and values.

    Filters of a tile stand in order of their weights, so that the CPU guesses the end of each loop
    rightly. A tile in which a filter has no weight is no visit.
    """
    weight, mask = weight[filters.start : filters.stop], mask[filters.start : filters.stop]
    count, tiles = len(filters), -(-mask.shape[1] // tile)
    row, channel, down, across = mask.nonzero(as_tuple=True)
    counts = torch.bincount(channel // tile * count + row, minlength=tiles * count)
    counts = counts.view(tiles, count)
    counts_or_one = counts.clone()
    counts_or_one[0, ~mask.flatten(1).any(1)] = 1  # a filter without weights is visited once
    visited = counts_or_one > 0
    first = visited & (visited.cumsum(0) == 1)
    last = visited & (visited.flip(0).cumsum(0).flip(0) == 1)
    order = counts.argsort(dim=1, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(count).expand(tiles, -1))
    turn = (channel // tile * count + rank[channel // tile, row]).argsort(stable=True)
    flags = (t.gather(1, order) for t in (counts, first + 2 * last))
    visits = torch.stack([order + filters.start, *flags], 2)[visited.gather(1, order)]
    places = 4 * offsets[channel, down, across][turn]
    values = aligned(len(turn) + 1)
    values[:-1] = weight[row, channel, down, across][turn]
    return visits.to(torch.int32).contiguous(), places.to(torch.int32), values
