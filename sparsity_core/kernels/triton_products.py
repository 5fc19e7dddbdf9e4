"""Our Triton kernels; imported only where Triton is, and then compiled or interpreted.

Samples are rows: x (samples, inputs), y (samples, outputs). Sums are float32.
"""

import triton
import triton.language as tl


@triton.jit
def gather(  # type: ignore[no-untyped-def]
    x,
    x_input,  # the step in x from one input to the next, and from one sample to the next
    x_sample,
    y,
    bias,
    starts,
    places,
    values,
    samples,
    outputs,
    fan_in,
    EVEN: tl.constexpr,  # noqa: N803 - every output has `fan_in` weights; starts is not read
    BLOCK: tl.constexpr,  # noqa: N803 - weights in a block of 32 inputs; 0: places are columns
    WEIGHTS: tl.constexpr,  # noqa: N803 - taken at a time
    SAMPLES: tl.constexpr,  # noqa: N803
):
    """One output of SAMPLES samples: each weight times the input that it names."""
    output = tl.program_id(0)
    sample = tl.program_id(1) * SAMPLES + tl.arange(0, SAMPLES)
    here = sample < samples
    if EVEN:
        begin = output * fan_in
        end = begin + fan_in
    else:
        begin = tl.load(starts + output)
        end = tl.load(starts + output + 1)
    total = tl.zeros((WEIGHTS, SAMPLES), tl.float32)
    for first in range(begin, end, WEIGHTS):
        at = first + tl.arange(0, WEIGHTS)
        there = at < end
        value = tl.load(values + at, mask=there, other=0.0).to(tl.float32)
        column = tl.load(places + at, mask=there, other=0).to(tl.int32)
        if BLOCK > 0:
            column += (at - begin) // BLOCK * 32
        found = tl.load(
            x + column[:, None] * x_input + sample[None, :] * x_sample,
            mask=there[:, None] & here[None, :],
            other=0.0,
        )
        total += value[:, None] * found.to(tl.float32)
    result = tl.sum(total, 0) + tl.load(bias + output).to(tl.float32)
    tl.store(y + sample * outputs + output, result.to(y.dtype.element_ty), mask=here)


@triton.jit
def expand(  # type: ignore[no-untyped-def]
    x,
    y,
    places,
    values,
    samples,
    outputs,
    inputs,
    blocks_each,
    WEIGHTS: tl.constexpr,  # noqa: N803 - in a block of 32 inputs
    OUTPUTS: tl.constexpr,  # noqa: N803
    SAMPLES: tl.constexpr,  # noqa: N803
    BLOCKS: tl.constexpr,  # noqa: N803 - of 32 inputs, taken at a time
):
    """A part of the sum, y (parts, samples, outputs): blocks become dense in registers.

    So tensor cores can multiply them, while only the kept weights were read from memory.
    """
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    sample = tl.program_id(1) * SAMPLES + tl.arange(0, SAMPLES)
    part = tl.program_id(2)
    blocks = inputs // 32
    last = tl.minimum((part + 1) * blocks_each, blocks)
    inside = tl.arange(0, 32)
    total = tl.zeros((SAMPLES, OUTPUTS), tl.float32)
    for first in range(part * blocks_each, last, BLOCKS):
        block = first + tl.arange(0, BLOCKS)
        there = (output[:, None] < outputs) & (block[None, :] < last)
        dense = tl.zeros((OUTPUTS, BLOCKS, 32), values.dtype.element_ty)
        for weight in tl.static_range(WEIGHTS):
            at = (output[:, None] * blocks + block[None, :]) * WEIGHTS + weight
            value = tl.load(values + at, mask=there, other=0.0)
            place = tl.load(places + at, mask=there, other=255).to(tl.int32)
            dense = tl.where(place[:, :, None] == inside[None, None, :], value[:, :, None], dense)
        column = first * 32 + tl.arange(0, BLOCKS * 32)
        found = tl.load(
            x + sample[:, None] * inputs + column[None, :],
            mask=(sample[:, None] < samples) & (column[None, :] < last * 32),
            other=0.0,
        )
        weights = tl.trans(tl.reshape(dense, (OUTPUTS, BLOCKS * 32)))
        total += tl.dot(found, weights, input_precision="ieee")
    to = (part * samples + sample[:, None]) * outputs + output[None, :]
    tl.store(y + to, total, mask=(sample[:, None] < samples) & (output[None, :] < outputs))
