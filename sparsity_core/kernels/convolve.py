"""The loop of a sparse convolution: each weight times a run of pixels, 16 to 128 at once."""

from sparsity_core.kernels.compiled import compiled
from sparsity_core.kernels.instructions import (
    add,
    float_at,
    fma,
    int_at,
    load,
    move,
    not_below_zero,
    spread,
    store,
    zeros,
)


@compiled
def convolve(pixels, sums, residual, numbers, first, end):  # type: ignore[no-untyped-def]
    """Vectors first..end of all filters, in panels of equal width, of 8 at most.

    Residual: an address, or 0 for none. Numbers: of bias, visits, offsets, values the addresses;
    how many visits, bytes from filter to filter, whether ReLU, vectors of a panel at most.
    """
    fixed = (pixels, sums, numbers[0], residual)
    streams = numbers[1:4]
    sizes = numbers[4:]
    widest = numbers[7]
    panels = (end - first + widest - 1) // widest
    at = first
    for i in range(panels):
        wide = (end - at + panels - i - 1) // (panels - i)
        if wide == 8:
            _panel((0, 64, 128, 192, 256, 320, 384, 448), 64 * at, fixed, streams, sizes)
        elif wide == 7:
            _panel((0, 64, 128, 192, 256, 320, 384), 64 * at, fixed, streams, sizes)
        elif wide == 6:
            _panel((0, 64, 128, 192, 256, 320), 64 * at, fixed, streams, sizes)
        elif wide == 5:
            _panel((0, 64, 128, 192, 256), 64 * at, fixed, streams, sizes)
        elif wide == 4:
            _panel((0, 64, 128, 192), 64 * at, fixed, streams, sizes)
        elif wide == 3:
            _panel((0, 64, 128), 64 * at, fixed, streams, sizes)
        elif wide == 2:
            _panel((0, 64), 64 * at, fixed, streams, sizes)
        else:
            _panel(0, 64 * at, fixed, streams, sizes)
        at += wide


@compiled
def _panel(lanes, at, fixed, streams, sizes):  # type: ignore[no-untyped-def]
    pixels, sums, bias, residual = fixed
    visit, offsets, values = streams
    visits, room, relu, _ = sizes
    here = move(lanes, pixels + at)
    for _ in range(visits):
        row = int_at(visit)
        length = int_at(visit + 4)
        part = int_at(visit + 8)
        visit += 12
        target = move(lanes, sums + room * row + at)
        if part & 1:  # the first of this filter
            total = fma(zeros(lanes), zeros(0), spread(float_at(bias + 4 * row)))
        else:
            total = load(target)
        other = zeros(lanes)  # two sums: one would wait for itself
        for _ in range(length // 2):
            found = load(move(here, int_at(offsets)))
            total = fma(spread(float_at(values)), found, total)
            found = load(move(here, int_at(offsets + 4)))
            other = fma(spread(float_at(values + 4)), found, other)
            values += 8
            offsets += 8
        if length % 2:
            found = load(move(here, int_at(offsets)))
            total = fma(spread(float_at(values)), found, total)
            values += 4
            offsets += 4
        total = add(total, other)
        if part & 2:  # the last
            if residual:
                total = add(total, load(move(target, residual - sums)))
            if relu:
                total = not_below_zero(total)
        store(target, total)
