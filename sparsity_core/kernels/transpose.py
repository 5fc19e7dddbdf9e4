"""Squares of 16 x 16 floats turned within registers."""

from typing import Any

from llvmlite import ir

from sparsity_core.kernels import vector as v
from sparsity_core.kernels.vector import LANES, nothing, primitive, whole


@primitive(nothing, whole, whole, whole, whole, whole, whole)
def turn_in(
    b: Any, source: Any, source_step: Any, last: Any, columns: Any, target: Any, target_step: Any
) -> Any:
    """Rows of 16 floats become columns; steps in bytes from row to row.

    Rows after `last` repeat it; columns from the count `columns` on are read as zeros.
    """
    rows = []
    for i in range(LANES):
        row = ir.Constant(v.LONG, i)
        row = b.select(b.icmp_signed("<", row, last), row, last)
        rows.append(v.load_part(b, b.add(source, b.mul(row, source_step)), columns))
    for i, column in enumerate(_turned(b, rows)):
        address = b.add(target, b.mul(target_step, ir.Constant(v.LONG, i)))
        v.store_part(b, address, column, ir.Constant(v.LONG, LANES))


@primitive(nothing, whole, whole, whole, whole, whole, whole)
def turn_out(
    b: Any, source: Any, source_step: Any, last: Any, columns: Any, target: Any, target_step: Any
) -> Any:
    """Columns of 16 floats become rows, of which those up to `last` are written, `columns` wide."""
    full = ir.Constant(v.LONG, LANES)
    lines = [
        v.load_part(b, b.add(source, b.mul(source_step, ir.Constant(v.LONG, i))), full)
        for i in range(LANES)
    ]
    for i, row in enumerate(_turned(b, lines)):
        index = ir.Constant(v.LONG, i)
        count = b.select(b.icmp_signed("<=", index, last), columns, ir.Constant(v.LONG, 0))
        v.store_part(b, b.add(target, b.mul(target_step, index)), row, count)


def _turned(b: Any, rows: list[Any]) -> list[Any]:
    """Four rounds that swap halves of blocks of 8, 4, 2 and 1: 64 shuffles."""
    for half in (8, 4, 2, 1):
        low = [i if not i & half else LANES + i - half for i in range(LANES)]
        high = [i + half if not i & half else LANES + i for i in range(LANES)]
        swapped = list(rows)
        for i in range(LANES):
            if not i & half:
                pair = rows[i], rows[i + half]
                swapped[i] = _shuffle(b, *pair, low)
                swapped[i + half] = _shuffle(b, *pair, high)
        rows = swapped
    return rows


def _shuffle(b: Any, one: Any, other: Any, places: list[int]) -> Any:
    return b.shuffle_vector(one, other, ir.Constant(v.INTS, places))
