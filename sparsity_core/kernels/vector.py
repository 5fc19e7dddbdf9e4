"""Vectors of 16 floats in numba, without a C compiler: a numba type backed by an LLVM vector.

Every function takes addresses (bytes, as integers) instead of arrays, so that a call from Python
unpacks a few integers and no arrays. LLVM turns 16 lanes into whatever the CPU has; what only
AVX-512 has (gather, permute) is spelled out lane by lane elsewhere.
"""

import inspect
import os
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
_BIT, _BYTE, _SHORT, _INT, _LONG = (ir.IntType(width) for width in (1, 8, 16, 32, 64))
_FLOAT = ir.FloatType()
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_BITS = ir.VectorType(_BIT, LANES)
_ZEROS = ir.Constant(_FLOATS, [0.0] * LANES)
_ONES = ir.Constant(_BITS, [1] * LANES)


class _Vector(types.Type):
    def __init__(self, name: str, llvm: ir.Type) -> None:
        self.llvm = llvm
        super().__init__(name=name)


floats, ints = _Vector("floats16", _FLOATS), _Vector("ints16", _INTS)
_real, _whole, _nothing = types.float32, types.int64, types.void


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Vector) -> None:
        super().__init__(manager, kind, kind.llvm)


def cpu_features() -> set[str]:
    """The instruction sets that numba compiles for."""
    if os.environ.get("NUMBA_CPU_NAME", "host") != "host":
        given = os.environ.get("NUMBA_CPU_FEATURES", "").split(",")
        return {feature[1:] for feature in given if feature.startswith("+")}
    return {name for name, there in binding.get_host_cpu_features().items() if there}


AVX512 = "avx512f" in cpu_features()


def _primitive(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """An intrinsic of fixed types, from a function (builder, *LLVM values) -> LLVM value.

    Called with tuples among its arguments, it works item by item and returns a tuple: so one
    kernel serves one sample and several, and registers are named by position.
    """

    def make(emit: Callable[..., Any]) -> Any:
        def typing(_context: Any, *given: Any) -> Any:
            counts = {kind.count for kind in given if isinstance(kind, types.UniTuple)}
            if not counts:
                return result(*arguments), one
            (count,) = counts
            of = [
                types.UniTuple(kind, count) if isinstance(got, types.UniTuple) else kind
                for kind, got in zip(arguments, given, strict=True)
            ]
            several = result if result is _nothing else types.UniTuple(result, count)
            return several(*of), all_items

        def one(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            made = emit(builder, *values)
            return context.get_dummy_value() if result is _nothing else made

        def all_items(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            tuples = [isinstance(kind, types.UniTuple) for kind in signature.args]
            (count,) = {k.count for k in signature.args if isinstance(k, types.UniTuple)}
            made = []
            for i in range(count):
                pairs = zip(values, tuples, strict=True)
                items = [builder.extract_value(v, i) if many else v for v, many in pairs]
                made.append(emit(builder, *items))
            if result is _nothing:
                return context.get_dummy_value()
            return context.make_tuple(builder, signature.return_type, made)

        # numba asks the function for the number of its arguments.
        typing.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]
        typing.__name__, typing.__doc__ = emit.__name__, emit.__doc__
        return intrinsic(typing)

    return make


def _at(b: Any, address: Any, kind: ir.Type) -> Any:
    return b.inttoptr(address, kind.as_pointer())


def _load(b: Any, address: Any, kind: ir.Type, align: int) -> Any:
    return b.load(_at(b, address, kind), align=align)


def _call(b: Any, name: str, result: ir.Type, *values: Any) -> Any:
    kind = ir.FunctionType(result, [value.type for value in values])
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), values)


def _spread(b: Any, value: Any) -> Any:
    one = b.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(_INT, 0))
    return b.shuffle_vector(one, one, ir.Constant(_INTS, [0] * LANES))


def _bits(b: Any, bits: Any) -> Any:
    return b.bitcast(b.trunc(bits, _SHORT), _BITS)


def _first(b: Any, count: Any) -> Any:
    """True in the first `count` lanes."""
    all_counts = b.insert_element(
        ir.Constant(_INTS, ir.Undefined), b.trunc(count, _INT), ir.Constant(_INT, 0)
    )
    every = b.shuffle_vector(all_counts, all_counts, ir.Constant(_INTS, [0] * LANES))
    return b.icmp_signed("<", ir.Constant(_INTS, list(range(LANES))), every)


# --- one number


@_primitive(_real, _whole)
def float_at(b: Any, address: Any) -> Any:
    """The float32 at an address."""
    return _load(b, address, _FLOAT, 4)


@_primitive(_nothing, _whole, _real)
def put_float(b: Any, address: Any, value: Any) -> Any:
    """Write a float32."""
    return b.store(value, _at(b, address, _FLOAT), align=4)


@_primitive(_whole, _whole, _whole)
def move(b: Any, address: Any, distance: Any) -> Any:
    """An address further on."""
    return b.add(address, distance)


@_primitive(_whole, _whole)
def byte_at(b: Any, address: Any) -> Any:
    """The unsigned 8-bit number at an address."""
    return b.zext(_load(b, address, _BYTE, 1), _LONG)


@_primitive(_whole, _whole)
def short_at(b: Any, address: Any) -> Any:
    """The unsigned 16-bit number at an address."""
    return b.zext(_load(b, address, _SHORT, 2), _LONG)


@_primitive(_whole, _whole)
def int_at(b: Any, address: Any) -> Any:
    """The signed 32-bit number at an address."""
    return b.sext(_load(b, address, _INT, 4), _LONG)


@_primitive(_whole, _whole)
def count_bits(b: Any, bits: Any) -> Any:
    """How many bits are set."""
    return _call(b, "llvm.ctpop.i64", _LONG, bits)


@_primitive(_nothing, _whole)
def prefetch(b: Any, address: Any) -> Any:
    """Ask for the cache line of an address, which may lie outside of what is ours."""
    pointer = _at(b, address, _BYTE)
    flags = (ir.Constant(_INT, 0), ir.Constant(_INT, 3), ir.Constant(_INT, 1))  # read, keep, data
    return _call(b, "llvm.prefetch.p0", ir.VoidType(), pointer, *flags)


# --- sixteen numbers


@_primitive(floats, _whole)
def load(b: Any, address: Any) -> Any:
    """16 float32."""
    return _load(b, address, _FLOATS, 4)


@_primitive(floats, _whole, _whole)
def load_part(b: Any, address: Any, count: Any) -> Any:
    """The first `count` of 16 float32, then zeros; nothing behind them is touched."""
    kind = "llvm.masked.load.v16f32.p0"
    align = ir.Constant(_INT, 4)
    return _call(b, kind, _FLOATS, _at(b, address, _FLOATS), align, _first(b, count), _ZEROS)


@_primitive(_nothing, _whole, floats)
def store(b: Any, address: Any, values: Any) -> Any:
    """Write 16 float32."""
    return b.store(values, _at(b, address, _FLOATS), align=4)


@_primitive(_nothing, _whole, floats, _whole)
def store_part(b: Any, address: Any, values: Any, count: Any) -> Any:
    """Write the first `count` of 16 float32."""
    kind, align = "llvm.masked.store.v16f32.p0", ir.Constant(_INT, 4)
    pointer = _at(b, address, _FLOATS)
    return _call(b, kind, ir.VoidType(), values, pointer, align, _first(b, count))


@_primitive(floats, _real)
def spread(b: Any, value: Any) -> Any:
    """One number in all lanes."""
    return _spread(b, value)


@_primitive(floats, _whole)
def zeros(_b: Any, like: Any) -> Any:  # noqa: ARG001
    """A zero vector for each address: where sums begin."""
    return _ZEROS


@_primitive(floats, floats, floats)
def add(b: Any, one: Any, other: Any) -> Any:
    """Lane by lane."""
    return b.fadd(one, other)


@_primitive(floats, floats, floats, floats)
def fma(b: Any, one: Any, other: Any, rest: Any) -> Any:
    """one * other + rest, rounded once."""
    return _call(b, "llvm.fma.v16f32", _FLOATS, one, other, rest)


@_primitive(floats, _whole)
def halves_at(b: Any, address: Any) -> Any:
    """16 bfloat16, which are the upper halves of float32."""
    upper = b.zext(_load(b, address, ir.VectorType(_SHORT, LANES), 2), _INTS)
    return b.bitcast(b.shl(upper, ir.Constant(_INTS, [16] * LANES)), _FLOATS)


@_primitive(ints, _whole)
def bytes_at(b: Any, address: Any) -> Any:
    """16 unsigned 8-bit numbers."""
    return b.zext(_load(b, address, ir.VectorType(_BYTE, LANES), 1), _INTS)


@_primitive(ints, _whole)
def shorts_at(b: Any, address: Any) -> Any:
    """16 unsigned 16-bit numbers."""
    return b.zext(_load(b, address, ir.VectorType(_SHORT, LANES), 2), _INTS)


@_primitive(floats, _whole, _whole)
def expand(b: Any, address: Any, bits: Any) -> Any:
    """Float32 that lie side by side, one to each lane whose bit is set; zero in the others.

    May read all 16 that follow the address, whatever the bits.
    """
    if AVX512:  # from a register: from memory an EPYC takes twice as long
        kind = "llvm.x86.avx512.mask.expand.v16f32"
        return _call(b, kind, _FLOATS, _load(b, address, _FLOATS, 4), _ZEROS, _bits(b, bits))
    kind = "llvm.masked.expandload.v16f32"
    return _call(b, kind, _FLOATS, _at(b, address, _FLOAT), _bits(b, bits), _ZEROS)


@_primitive(floats, _whole, floats)
def only(b: Any, bits: Any, values: Any) -> Any:
    """The lanes whose bit is set; zero in the others."""
    return b.select(_bits(b, bits), values, _ZEROS)


@_primitive(floats, _whole, ints)
def gather(b: Any, address: Any, places: Any) -> Any:
    """The float32 at each place behind an address."""
    if AVX512:
        kind = "llvm.x86.avx512.mask.gather.dps.512"
        pointer, scale = _at(b, address, _BYTE), ir.Constant(_INT, 4)
        return _call(b, kind, _FLOATS, _ZEROS, pointer, places, _ONES, scale)
    return _lane_by_lane(b, _at(b, address, _FLOAT), places)


@_primitive(floats, floats, ints, floats)
def permute(b: Any, low: Any, places: Any, high: Any) -> Any:
    """From a table of 32 float32 in two vectors, the one at each place (0..31)."""
    if AVX512:
        return _call(b, "llvm.x86.avx512.vpermi2var.ps.512", _FLOATS, low, places, high)
    table = cgutils.alloca_once(b, ir.ArrayType(_FLOATS, 2))
    zero = ir.Constant(_INT, 0)
    for i, half in enumerate((low, high)):
        b.store(half, b.gep(table, [zero, ir.Constant(_INT, i)]))
    return _lane_by_lane(b, b.bitcast(table, _FLOAT.as_pointer()), places)


def _lane_by_lane(b: Any, pointer: Any, places: Any) -> Any:
    result = _ZEROS
    for lane in range(LANES):
        index = ir.Constant(_INT, lane)
        value = b.load(b.gep(pointer, [b.extract_element(places, index)]))
        result = b.insert_element(result, value, index)
    return result
