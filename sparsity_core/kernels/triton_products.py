"""Our Triton kernels; imported only where Triton is, and then compiled or interpreted.

Outputs are y (samples, outputs). Inputs come as x (tiles, inputs, samples of a tile): what a weight
names is then one piece of memory for some samples. Sums are float32. Weights lie along the first
axis of a tile: Triton then gives inputs the threads that their weights have, and nothing is moved
between threads before the sum.
"""

import triton
import triton.language as tl


@triton.jit
def transpose(  # type: ignore[no-untyped-def]
    x,
    y,
    rows,
    cols,
    SAMPLES: tl.constexpr,  # noqa: N803
    COLS: tl.constexpr,  # noqa: N803
):
    """y (tiles, cols, SAMPLES) from x (rows, cols); the last tile is filled up with zeros.

    torch's own transpose takes half as long again for 256 x 3072.
    """
    tile = tl.program_id(0)
    sample = tl.arange(0, SAMPLES)
    row = tile * SAMPLES + sample
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    here = (row[:, None] < rows) & (col[None, :] < cols)
    found = tl.load(x + row[:, None] * cols + col[None, :], mask=here, other=0.0)
    place = y + tile * SAMPLES * cols + col[:, None] * SAMPLES + sample[None, :]
    tl.store(place, tl.trans(found), mask=(col < cols)[:, None])


@triton.jit
def gather(  # type: ignore[no-untyped-def]
    x,
    y,
    bias,
    starts,
    columns,
    values,
    rows,
    inputs,
    outputs,
    fan_in,
    EVEN: tl.constexpr,  # noqa: N803 - every output has `fan_in` weights; starts is not read
    WEIGHTS: tl.constexpr,  # noqa: N803 - taken at a time
    SAMPLES: tl.constexpr,  # noqa: N803
    TIMES: tl.constexpr,  # noqa: N803 - 2: as many samples again, with the weights there are
):
    """One output of a tile: each weight times the input that it names."""
    output = tl.program_id(0)
    tile = tl.program_id(1)
    sample = tl.arange(0, SAMPLES)
    x += tile * (SAMPLES * TIMES) * inputs
    if EVEN:
        begin = output * fan_in
        end = begin + fan_in
    else:
        begin = tl.load(starts + output)
        end = tl.load(starts + output + 1)
    total = tl.zeros((WEIGHTS, SAMPLES), tl.float32)
    more = total
    for first in range(begin, end, WEIGHTS):
        at = first + tl.arange(0, WEIGHTS)
        there = at < end
        value = tl.load(values + at, mask=there, other=0.0).to(tl.float32)[:, None]
        column = tl.load(columns + at, mask=there, other=0).to(tl.int32)
        place = x + column[:, None] * (SAMPLES * TIMES) + sample[None, :]
        # What no weight names may be infinite, and is not to be read.
        total += value * tl.load(place, mask=there[:, None], other=0.0).to(tl.float32)
        if TIMES == 2:
            found = tl.load(place + SAMPLES, mask=there[:, None], other=0.0)
            more += value * found.to(tl.float32)
    added = tl.load(bias + output).to(tl.float32)
    sample += tile * (SAMPLES * TIMES)
    place = y + sample * outputs + output
    result = (tl.sum(total, 0) + added).to(y.dtype.element_ty)
    tl.store(place, result, mask=sample < rows)
    if TIMES == 2:
        result = (tl.sum(more, 0) + added).to(y.dtype.element_ty)
        tl.store(place + SAMPLES * outputs, result, mask=sample + SAMPLES < rows)


@triton.jit
def balanced(  # type: ignore[no-untyped-def]
    x,
    y,
    bias,
    words,
    rows,
    inputs,
    outputs,
    each,  # words of an output
    BLOCK: tl.constexpr,  # noqa: N803 - words of a block of 32 inputs
    LAST: tl.constexpr,  # noqa: N803 - weights in the last of them
    OUTPUTS: tl.constexpr,  # noqa: N803
    WORDS: tl.constexpr,  # noqa: N803 - taken at a time
    SAMPLES: tl.constexpr,  # noqa: N803
):
    """Some outputs of a tile; a word of 64 bits holds three weights of 16 and their places.

    From the lowest bit on: the weights, then 5 bits for each place in the block, then a 0.
    """
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    sample = tl.arange(0, SAMPLES)
    x += tl.program_id(1) * SAMPLES * inputs
    here = output < outputs
    if SAMPLES == 1:
        total = tl.zeros((WORDS, OUTPUTS), tl.float32)
    else:
        total = tl.zeros((WORDS, OUTPUTS, SAMPLES), tl.float32)
    for first in range(0, each, WORDS):
        at = first + tl.arange(0, WORDS)
        there = (at < each)[:, None] & here[None, :]
        word = tl.load(words + output[None, :] * each + at[:, None], mask=there, other=0)
        low = word.to(tl.int32)
        high = (word >> 32).to(tl.int32)
        block = (at // BLOCK * 32)[:, None]
        for slot in tl.static_range(3):
            taken = there
            if slot >= LAST:
                taken = there & (at % BLOCK < BLOCK - 1)[:, None]
            if slot == 0:
                bits = low
            elif slot == 1:
                bits = low >> 16
            else:
                bits = high
            value = bits.to(tl.int16).to(x.dtype.element_ty, bitcast=True).to(tl.float32)
            column = block + ((high >> (16 + 5 * slot)) & 31)
            if SAMPLES == 1:
                found = tl.load(x + column, mask=taken, other=0.0)
                total += value * found.to(tl.float32)
            else:
                place = x + column[:, :, None] * SAMPLES + sample[None, None, :]
                found = tl.load(place, mask=taken[:, :, None], other=0.0)
                total += value[:, :, None] * found.to(tl.float32)
    added = tl.load(bias + output, mask=here, other=0.0).to(tl.float32)
    if SAMPLES == 1:
        result = (tl.sum(total, 0) + added).to(y.dtype.element_ty)
        tl.store(y + output, result, mask=here)
    else:
        result = (tl.sum(total, 0) + added[:, None]).to(y.dtype.element_ty)
        sample += tl.program_id(1) * SAMPLES
        place = y + sample[None, :] * outputs + output[:, None]
        tl.store(place, result, mask=here[:, None] & (sample < rows)[None, :])


@triton.jit
def blocks(  # type: ignore[no-untyped-def]
    x,  # (samples, inputs)
    y,
    bias,
    starts,
    columns,
    values,
    rows,
    outputs,
    inputs,
    SIDE: tl.constexpr,  # noqa: N803 - of a block
    SAMPLES: tl.constexpr,  # noqa: N803
    STAGES: tl.constexpr,  # noqa: N803 - blocks on their way from memory at a time
):
    """A row of blocks for some samples, on tensor cores."""
    row = tl.program_id(1)
    sample = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    inside = tl.arange(0, SIDE)
    here = sample < rows
    total = tl.zeros((SAMPLES, SIDE), tl.float32)
    last = tl.load(starts + row + 1)
    for at in tl.range(tl.load(starts + row), last, num_stages=STAGES):
        column = tl.load(columns + at) * SIDE + inside
        block = tl.load(values + at * (SIDE * SIDE) + inside[:, None] * SIDE + inside[None, :])
        place = x + sample[:, None] * inputs + column[None, :]
        found = tl.load(place, mask=here[:, None], other=0.0)
        total = tl.dot(found, tl.trans(block), total, input_precision="ieee")
    output = row * SIDE + inside
    total += tl.load(bias + output).to(tl.float32)[None, :]
    place = y + sample[:, None] * outputs + output[None, :]
    tl.store(place, total.to(y.dtype.element_ty), mask=here[:, None])
