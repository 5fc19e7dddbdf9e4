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
BIT, BYTE, SHORT, INT, LONG = (ir.IntType(width) for width in (1, 8, 16, 32, 64))
FLOAT = ir.FloatType()
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)
BITS = ir.VectorType(BIT, LANES)
ZEROS = ir.Constant(FLOATS, [0.0] * LANES)
ONES = ir.Constant(BITS, [1] * LANES)


class _Vector(types.Type):
    def __init__(self, name: str, llvm: ir.Type) -> None:
        self.llvm = llvm
        super().__init__(name=name)


floats, ints = _Vector("floats16", FLOATS), _Vector("ints16", INTS)
real, whole, nothing = types.float32, types.int64, types.void


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


def primitive(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
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
            several = result if result is nothing else types.UniTuple(result, count)
            return several(*of), all_items

        def one(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            made = emit(builder, *values)
            return context.get_dummy_value() if result is nothing else made

        def all_items(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            tuples = [isinstance(kind, types.UniTuple) for kind in signature.args]
            (count,) = {k.count for k in signature.args if isinstance(k, types.UniTuple)}
            made = []
            for i in range(count):
                pairs = zip(values, tuples, strict=True)
                items = [builder.extract_value(v, i) if many else v for v, many in pairs]
                made.append(emit(builder, *items))
            if result is nothing:
                return context.get_dummy_value()
            return context.make_tuple(builder, signature.return_type, made)

        # numba asks the function for the number of its arguments.
        typing.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]
        typing.__name__, typing.__doc__ = emit.__name__, emit.__doc__
        return intrinsic(typing)

    return make


def at(b: Any, address: Any, kind: ir.Type) -> Any:
    """A pointer from an address."""
    return b.inttoptr(address, kind.as_pointer())


def load(b: Any, address: Any, kind: ir.Type, align: int) -> Any:
    """What lies at an address."""
    return b.load(at(b, address, kind), align=align)


def call(b: Any, name: str, result: ir.Type, *values: Any) -> Any:
    """A call of an LLVM intrinsic by name."""
    kind = ir.FunctionType(result, [value.type for value in values])
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), values)


def spread(b: Any, value: Any) -> Any:
    """One number in all lanes."""
    one = b.insert_element(ir.Constant(FLOATS, ir.Undefined), value, ir.Constant(INT, 0))
    return b.shuffle_vector(one, one, ir.Constant(INTS, [0] * LANES))


def bits_of(b: Any, bits: Any) -> Any:
    """The low 16 bits of a number as a mask of lanes."""
    return b.bitcast(b.trunc(bits, SHORT), BITS)


def first_lanes(b: Any, count: Any) -> Any:
    """True in the first `count` lanes."""
    all_counts = b.insert_element(
        ir.Constant(INTS, ir.Undefined), b.trunc(count, INT), ir.Constant(INT, 0)
    )
    every = b.shuffle_vector(all_counts, all_counts, ir.Constant(INTS, [0] * LANES))
    return b.icmp_signed("<", ir.Constant(INTS, list(range(LANES))), every)


def load_part(b: Any, address: Any, count: Any) -> Any:
    """See `instructions.load_part`."""
    kind, align = "llvm.masked.load.v16f32.p0", ir.Constant(INT, 4)
    return call(b, kind, FLOATS, at(b, address, FLOATS), align, first_lanes(b, count), ZEROS)


def load_lanes(b: Any, address: Any, bits: Any) -> Any:
    """See `instructions.load_lanes`."""
    kind, align = "llvm.masked.load.v16f32.p0", ir.Constant(INT, 4)
    return call(b, kind, FLOATS, at(b, address, FLOATS), align, bits_of(b, bits), ZEROS)


def store_part(b: Any, address: Any, values: Any, count: Any) -> Any:
    """See `instructions.store_part`."""
    kind, align = "llvm.masked.store.v16f32.p0", ir.Constant(INT, 4)
    pointer = at(b, address, FLOATS)
    return call(b, kind, ir.VoidType(), values, pointer, align, first_lanes(b, count))
