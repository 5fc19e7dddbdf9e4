"""What kernels are made of: reads, writes and sums of one float and of 16, by address.

All may be called with tuples of addresses or vectors as well: see `primitive`.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from sparsity_core.kernels import vector as v
from sparsity_core.kernels.vector import (
    AVX512,
    LANES,
    floats,
    ints,
    nothing,
    primitive,
    real,
    whole,
)

# --- one number


@primitive(real, whole)
def float_at(b: Any, address: Any) -> Any:
    """The float32 at an address."""
    return v.load(b, address, v.FLOAT, 4)


@primitive(nothing, whole, real)
def put_float(b: Any, address: Any, value: Any) -> Any:
    """Write a float32."""
    return b.store(value, v.at(b, address, v.FLOAT), align=4)


@primitive(whole, whole, whole)
def move(b: Any, address: Any, distance: Any) -> Any:
    """An address further on."""
    return b.add(address, distance)


@primitive(whole, whole)
def byte_at(b: Any, address: Any) -> Any:
    """The unsigned 8-bit number at an address."""
    return b.zext(v.load(b, address, v.BYTE, 1), v.LONG)


@primitive(whole, whole)
def short_at(b: Any, address: Any) -> Any:
    """The unsigned 16-bit number at an address."""
    return b.zext(v.load(b, address, v.SHORT, 2), v.LONG)


@primitive(whole, whole)
def int_at(b: Any, address: Any) -> Any:
    """The signed 32-bit number at an address."""
    return b.sext(v.load(b, address, v.INT, 4), v.LONG)


@primitive(whole, whole)
def long_at(b: Any, address: Any) -> Any:
    """The signed 64-bit number at an address."""
    return v.load(b, address, v.LONG, 8)


@primitive(whole, whole)
def count_bits(b: Any, bits: Any) -> Any:
    """How many bits are set."""
    return v.call(b, "llvm.ctpop.i64", v.LONG, bits)


@primitive(nothing, whole)
def prefetch(b: Any, address: Any) -> Any:
    """Ask for the cache line of an address, which may lie outside of what is ours."""
    pointer = v.at(b, address, v.BYTE)
    flags = (
        ir.Constant(v.INT, 0),
        ir.Constant(v.INT, 3),
        ir.Constant(v.INT, 1),
    )  # read, keep, data
    return v.call(b, "llvm.prefetch.p0", ir.VoidType(), pointer, *flags)


# --- sixteen numbers


@primitive(floats, whole)
def load(b: Any, address: Any) -> Any:
    """16 float32."""
    return v.load(b, address, v.FLOATS, 4)


@primitive(floats, whole, whole)
def load_part(b: Any, address: Any, count: Any) -> Any:
    """The first `count` of 16 float32, then zeros; nothing behind them is touched."""
    return v.load_part(b, address, count)


@primitive(floats, whole, whole)
def load_lanes(b: Any, address: Any, bits: Any) -> Any:
    """Float32 for the lanes whose bit is set, zeros in the others, of which nothing is touched."""
    return v.load_lanes(b, address, bits)


@primitive(nothing, whole, floats)
def store(b: Any, address: Any, values: Any) -> Any:
    """Write 16 float32."""
    return b.store(values, v.at(b, address, v.FLOATS), align=4)


@primitive(nothing, whole, floats, whole)
def store_part(b: Any, address: Any, values: Any, count: Any) -> Any:
    """Write the first `count` of 16 float32."""
    return v.store_part(b, address, values, count)


@primitive(floats, real)
def spread(b: Any, value: Any) -> Any:
    """One number in all lanes."""
    return v.spread(b, value)


@primitive(floats, whole)
def zeros(_b: Any, like: Any) -> Any:  # noqa: ARG001
    """A zero vector for each address: where sums begin."""
    return v.ZEROS


@primitive(floats, floats, floats)
def add(b: Any, one: Any, other: Any) -> Any:
    """Lane by lane."""
    return b.fadd(one, other)


@primitive(floats, floats)
def not_below_zero(b: Any, values: Any) -> Any:
    """ReLU lane by lane; NaN stays."""
    return b.select(b.fcmp_ordered("<", values, v.ZEROS), v.ZEROS, values)


@primitive(floats, floats, floats, floats)
def fma(b: Any, one: Any, other: Any, rest: Any) -> Any:
    """one * other + rest, rounded once."""
    return v.call(b, "llvm.fma.v16f32", v.FLOATS, one, other, rest)


@primitive(floats, whole)
def halves_at(b: Any, address: Any) -> Any:
    """16 bfloat16, which are the upper halves of float32."""
    upper = b.zext(v.load(b, address, ir.VectorType(v.SHORT, LANES), 2), v.INTS)
    return b.bitcast(b.shl(upper, ir.Constant(v.INTS, [16] * LANES)), v.FLOATS)


@primitive(ints, whole)
def bytes_at(b: Any, address: Any) -> Any:
    """16 unsigned 8-bit numbers."""
    return b.zext(v.load(b, address, ir.VectorType(v.BYTE, LANES), 1), v.INTS)


@primitive(ints, whole)
def shorts_at(b: Any, address: Any) -> Any:
    """16 unsigned 16-bit numbers."""
    return b.zext(v.load(b, address, ir.VectorType(v.SHORT, LANES), 2), v.INTS)


@primitive(floats, whole, whole)
def expand(b: Any, address: Any, bits: Any) -> Any:
    """Float32 that lie side by side, one to each lane whose bit is set; zero in the others.

    May read all 16 that follow the address, whatever the bits.
    """
    if AVX512:  # from a register: from memory an EPYC takes twice as long
        kind = "llvm.x86.avx512.mask.expand.v16f32"
        return v.call(
            b, kind, v.FLOATS, v.load(b, address, v.FLOATS, 4), v.ZEROS, v.bits_of(b, bits)
        )
    kind = "llvm.masked.expandload.v16f32"
    return v.call(b, kind, v.FLOATS, v.at(b, address, v.FLOAT), v.bits_of(b, bits), v.ZEROS)


@primitive(floats, whole, floats)
def only(b: Any, bits: Any, values: Any) -> Any:
    """The lanes whose bit is set; zero in the others."""
    return b.select(v.bits_of(b, bits), values, v.ZEROS)


@primitive(floats, whole, ints)
def gather(b: Any, address: Any, places: Any) -> Any:
    """The float32 at each place behind an address."""
    if AVX512:
        kind = "llvm.x86.avx512.mask.gather.dps.512"
        pointer, scale = v.at(b, address, v.BYTE), ir.Constant(v.INT, 4)
        return v.call(b, kind, v.FLOATS, v.ZEROS, pointer, places, v.ONES, scale)
    return _lane_by_lane(b, v.at(b, address, v.FLOAT), places)


@primitive(floats, floats, ints, floats)
def permute(b: Any, low: Any, places: Any, high: Any) -> Any:
    """From a table of 32 float32 in two vectors, the one at each place (0..31)."""
    if AVX512:
        return v.call(b, "llvm.x86.avx512.vpermi2var.ps.512", v.FLOATS, low, places, high)
    table = cgutils.alloca_once(b, ir.ArrayType(v.FLOATS, 2))
    zero = ir.Constant(v.INT, 0)
    for i, half in enumerate((low, high)):
        b.store(half, b.gep(table, [zero, ir.Constant(v.INT, i)]))
    return _lane_by_lane(b, b.bitcast(table, v.FLOAT.as_pointer()), places)


def _lane_by_lane(b: Any, pointer: Any, places: Any) -> Any:
    result = v.ZEROS
    for lane in range(LANES):
        index = ir.Constant(v.INT, lane)
        value = b.load(b.gep(pointer, [b.extract_element(places, index)]))
        result = b.insert_element(result, value, index)
    return result
