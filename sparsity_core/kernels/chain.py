"""Fused convolutions that follow each other, in one call: Python's way to each took as long as a
small layer's work."""

import torch
from torch import Tensor

from sparsity_core.kernels.compiled import compiled, side_by_side
from sparsity_core.kernels.convolution import Images, Share
from sparsity_core.kernels.convolve import convolve
from sparsity_core.kernels.instructions import long_at, move
from sparsity_core.kernels.meeting import meet
from sparsity_core.kernels.shifted import spread_image

_COPY, _OWN = 23, 8  # numbers of a copy, and of a convolution
_FIRST = 7  # numbers before them
_LINE = 8 * (_FIRST + _COPY + _OWN)  # bytes
_COPY_AT = tuple(range(8 * _FIRST, 8 * (_FIRST + _COPY), 8))
_OWN_AT = tuple(range(8 * (_FIRST + _COPY), _LINE, 8))


def line_of(images: Images, share: Share, x: Tensor, residual: Tensor | None) -> list[int]:
    """What a `Chain` has to know of a thread's share of a convolution, whose inputs stay there."""
    spread, pixels = images.spread, x if images.pixels is None else images.pixels
    numbers, first, end = share
    return [
        int(spread is not None),
        x.data_ptr(),
        pixels.data_ptr(),
        images.sums.data_ptr(),
        0 if residual is None else residual.data_ptr(),
        *(first, end),
        *(spread.numbers if spread is not None else [0] * _COPY),
        *numbers,
    ]


class Chain:
    """Lines one after another, of each thread its own; the inputs of the first may lie anywhere.

    Threads wait for each other after each line: they are woken once for all of them.
    """

    def __init__(self, lines: list[list[list[int]]]) -> None:
        self.table = torch.tensor(lines, dtype=torch.int64)  # (threads, lines, numbers)
        self.threads, steps, _ = self.table.shape
        self.fixed = (self.table.data_ptr(), steps)

    def __call__(self, x: Tensor) -> None:
        """Run them all."""
        side_by_side(_run, self.threads, *self.fixed, x.data_ptr())


@compiled
def _run(table, steps, x, meeting, part, parts):  # type: ignore[no-untyped-def]
    at = table + part * steps * _LINE
    met = 0
    for step in range(steps):
        source = long_at(at + 8)
        pixels = long_at(at + 16)
        if step == 0:
            pixels = x if pixels == source else pixels
            source = x
        if long_at(at):
            copy = long_at(move(_COPY_AT, at))
            channels = copy[2]
            spread_image(source, copy, channels * part // parts, channels * (part + 1) // parts)
            if parts > 1:
                met += parts
                meet(meeting, met)
        numbers = long_at(move(_OWN_AT, at))
        sums, residual = long_at(at + 24), long_at(at + 32)
        convolve(pixels, sums, residual, numbers, long_at(at + 40), long_at(at + 48))
        if parts > 1:
            met += parts
            meet(meeting, met)
        at += _LINE
