"""Convolutions with the sums and ReLUs behind them: one, and a chain of them in one call."""

import threading
from typing import Any

from torch import Tensor, nn

from sparsity_core.kernels.chain import Chain, line_of
from sparsity_core.kernels.convolution import Images, SparseConvolution, aligned, shared
from sparsity_core.kernels.kernel import Packed


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
        if residual is not None and not lie_alike(residual, images.result):
            residual = images.layout.outputs(aligned(images.sums.numel())).copy_(residual)
        return images(x, residual)

    def images(self, x: Tensor) -> Images:
        """The product for images of one size and strides."""
        packed = self.packed
        assert isinstance(packed.kernel, SparseConvolution)
        packed.kernel.check(x, packed.shape)
        return Images(
            packed.kernel,
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
    """

    def __init__(self, steps: list[FusedConvolution], reads: list[tuple[int, int | None]]) -> None:
        super().__init__()
        self.steps, self.reads = nn.ModuleList(steps), reads
        self._mine = threading.local()

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, height, width) -> outputs, strided."""
        x = in_lines(x)
        mine = self._mine
        if getattr(mine, "taken", None) != (x.shape, x.stride()):
            mine.taken, mine.held = (x.shape, x.stride()), self._images(x)
            mine.result = mine.held[-1].result
            mine.chain = self._chain(x, mine.held)
        if mine.chain is None:
            return self._one_by_one(x)
        mine.chain(x)
        result: Tensor = mine.result
        return result

    def _images(self, x: Tensor) -> list[Images]:
        values, held = [x], []
        for step, (taken, _) in zip(self.steps, self.reads, strict=True):
            assert isinstance(step, FusedConvolution)
            held.append(step.images(values[taken]))
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

    def _one_by_one(self, x: Tensor) -> Tensor:
        values = [x]
        for step, (taken, added) in zip(self.steps, self.reads, strict=True):
            values.append(step(values[taken], None if added is None else values[added]))
        return values[-1]


def lie_alike(one: Tensor, other: Tensor) -> bool:
    """Whether elements lie the same distances apart: from one image to itself is no distance."""
    steps = zip(one.shape, one.stride(), other.stride(), strict=True)
    return all(a == b for size, a, b in steps if size > 1)


def in_lines(x: Tensor) -> Tensor:
    """Images whose rows are runs of floats."""
    return x if x.stride(3) == 1 or x.shape[3] == 1 else x.contiguous()
