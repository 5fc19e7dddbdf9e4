"""Panels of 16, 32 or 64 samples: turned sample-last on the way in, and back on the way out."""

from sparsity_core.kernels.compiled import compiled
from sparsity_core.kernels.instructions import (
    float_at,
    fma,
    move,
    prefetch,
    spread,
    store,
    zeros,
)
from sparsity_core.kernels.transpose import turn_in, turn_out
from sparsity_core.kernels.vector import LANES


@compiled
def begin(lanes, sums, bias, wide, outputs):  # type: ignore[no-untyped-def]
    """The bias in every sample."""
    for row in range(outputs):
        start = fma(zeros(lanes), zeros(0), spread(float_at(bias + 4 * row)))
        store(move(lanes, sums + wide * row), start)


@compiled
def turn_tile(x, samples, wide, tile, inputs, most, t):  # type: ignore[no-untyped-def]
    """Inputs of one tile, sample last; those of the next are asked for, 3 % sooner in all."""
    width = min(most, inputs - most * t)
    more = most * (t + 1) < inputs
    for s in range(0, wide // 4, LANES):
        last = max(0, min(samples - s, LANES) - 1)
        # Behind the last sample its row is read again: those lanes are never written.
        source = x + 4 * (inputs * min(s, samples - 1) + most * t)
        for i in range(0, width, LANES):
            count = min(LANES, width - i)
            if more:
                for sample in range(LANES):
                    prefetch(source + 4 * (i + most + inputs * sample))
            turn_in(source + 4 * i, 4 * inputs, last, count, tile + wide * i + 4 * s, wide)


@compiled
def finish(y, samples, wide, sums, outputs):  # type: ignore[no-untyped-def]
    """Sums, output last again."""
    for s in range(0, min(wide // 4, samples), LANES):
        last = min(samples - s, LANES) - 1
        for n in range(0, outputs, LANES):
            count = min(LANES, outputs - n)
            target = y + 4 * (outputs * s + n)
            turn_out(sums + wide * n + 4 * s, wide, last, count, target, 4 * outputs)
