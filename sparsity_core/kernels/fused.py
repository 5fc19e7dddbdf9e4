"""Convolutions with the sums and ReLUs behind them: one, and a chain of them in one call."""

import dataclasses
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from sparsity_core.kernels.chain import Chain, line_of
from sparsity_core.kernels.compiled import spread_parts
from sparsity_core.kernels.convolution import Images, SparseConvolution, aligned, shared
from sparsity_core.kernels.kernel import Packed

# Bytes from which on images pass one after another: batches of ResNet-20 (270 KB an image) take
# half to a quarter of the time so, those of digits-mobilenet (20 KB) up to twice as long.
_LARGE = 1 << 16


class FusedConvolution(nn.Module):
    """A packed convolution that adds another value and takes the ReLU in the same pass.

    Returns a view of memory that it uses again: `slot` names it; convolutions of one slot and size
    share it.
    """

    def __init__(self, packed: Packed, relu: bool) -> None:
        super().__init__()
        self.packed, self.relu = packed, relu
        self.slot: Any = None
        self._mine = threading.local()

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Images (n, channels, height, width) -> outputs, strided."""
        x = in_lines(x)
        images = getattr(self._mine, "images", None)
        if images is None or images.taken != (x.shape, x.stride()):
            images = self._mine.images = self.images(x)
        return _with_sum(images, x, residual)

    @property
    def threads(self) -> int:
        """Of the kernel."""
        assert isinstance(self.packed.kernel, SparseConvolution)
        return self.packed.kernel.threads

    def images(self, x: Tensor, threads: int | None = None) -> Images:
        """The product for images of one size and strides, on the kernel's threads or so many."""
        packed = self.packed
        assert isinstance(packed.kernel, SparseConvolution)
        packed.kernel.check(x, packed.shape)
        return Images(
            dataclasses.replace(packed.kernel, threads=threads or self.threads),
            packed.parts,
            packed.shape,
            packed.bias,
            x,
            relu=self.relu,
            memory=lambda size: shared(self.slot, size),
        )

    def extra_repr(self) -> str:
        """The shape, and what is within."""
        return f"{tuple(self.packed.shape)}{', ReLU' if self.relu else ''}"


class FusedChain(nn.Module):
    """Fused convolutions in one call: `reads` says for each which value it takes and which it adds.

    Value 0 is the input, value i + 1 what the i-th convolution makes; the last one is returned.
    Images that are large go through one after another, while their values are in the cache; each
    thread takes some of them.
    """

    def __init__(self, steps: list[FusedConvolution], reads: list[tuple[int, int | None]]) -> None:
        super().__init__()
        self.steps, self.reads = nn.ModuleList(steps), reads
        self.threads = steps[0].threads
        self._mine = threading.local()

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, height, width) -> outputs, strided."""
        x, mine = in_lines(x), self._mine
        size = (x.shape, x.stride())
        if getattr(mine, "size", None) != size:
            mine.size, mine.singly = size, len(x) > 1 and self._large(x)
        if mine.singly:
            return self._image_by_image(x)
        ready = self._ready(x, self.threads)
        if ready.chain is None:
            return self._one_by_one(x, ready.held)
        ready.chain(x)
        return ready.result

    def _large(self, x: Tensor) -> bool:
        one = self._ready(x[:1], threads=1)
        return one.chain is not None and one.bytes >= _LARGE

    def _image_by_image(self, x: Tensor) -> Tensor:
        y = x.new_empty(len(x), *self._ready(x[:1], threads=1).result.shape[1:])

        def some(first: int, end: int) -> None:
            for i in range(first, end):
                ready = self._ready(x[i : i + 1], threads=1)
                assert ready.chain is not None
                ready.chain(x[i])
                y[i] = ready.result[0]

        spread_parts(some, len(x), self.threads)
        return y

    def _ready(self, x: Tensor, threads: int) -> "_Ready":
        """What this thread needs for images of that size and strides; one size at a time."""
        taken = (x.shape, x.stride(), threads)
        if getattr(self._mine, "taken", None) != taken:
            held = self._images(x, threads)
            self._mine.taken, self._mine.ready = taken, _Ready(held, self._chain(x, held))
        ready: _Ready = self._mine.ready
        return ready

    def _images(self, x: Tensor, threads: int) -> list[Images]:
        values, held = [x], []
        for step, (taken, _) in zip(self.steps, self.reads, strict=True):
            assert isinstance(step, FusedConvolution)
            held.append(step.images(values[taken], threads))
            values.append(held[-1].result)
        return held

    def _chain(self, x: Tensor, held: list[Images]) -> Chain | None:
        """None where a sum has to be laid out anew."""
        values = [x, *(images.result for images in held)]
        lines: list[list[list[int]]] = [[] for _ in held[0].shares]
        for images, (taken, added) in zip(held, self.reads, strict=True):
            residual = None if added is None else values[added]
            if residual is not None and not lie_alike(residual, images.result):
                return None
            for own, share in zip(lines, images.shares, strict=True):
                own.append(line_of(images, share, values[taken], residual))
        return Chain(lines)

    def _one_by_one(self, x: Tensor, held: list[Images]) -> Tensor:
        values = [x]
        for images, (taken, added) in zip(held, self.reads, strict=True):
            residual = None if added is None else values[added]
            values.append(_with_sum(images, values[taken], residual))
        return values[-1]


@dataclass(frozen=True, eq=False)
class _Ready:
    """The convolutions of a chain for images of one size; the chain where there can be one."""

    held: list[Images]
    chain: Chain | None

    @property
    def result(self) -> Tensor:
        return self.held[-1].result

    @cached_property
    def bytes(self) -> int:
        """That the largest step reads and writes."""
        return max(one.bytes for one in self.held)


def _with_sum(images: Images, x: Tensor, residual: Tensor | None) -> Tensor:
    """The outputs; a residual that lies otherwise is laid out anew."""
    if residual is not None and not lie_alike(residual, images.result):
        residual = images.layout.outputs(aligned(images.sums.numel())).copy_(residual)
    return images(x, residual)


def lie_alike(one: Tensor, other: Tensor) -> bool:
    """Whether elements lie the same distances apart: from one image to itself is no distance."""
    steps = zip(one.shape, one.stride(), other.stride(), strict=True)
    return all(a == b for size, a, b in steps if size > 1)


def in_lines(x: Tensor) -> Tensor:
    """Images whose rows are runs of floats."""
    return x if x.stride(3) == 1 or x.shape[3] == 1 else x.contiguous()
