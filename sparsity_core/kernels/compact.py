"""Rows as a small table of plain data, and back: what all have in common is said once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sparsity_core.kernels.latency_row import LatencyRow
from sparsity_core.kernels.row import KernelRow

_DIGITS = 4  # significant; no time is known better
_LEFT_OUT = ("point_id", "seconds")


def compact(rows: Sequence[Any], only: Sequence[str] | None = None) -> dict[str, Any]:
    """`same`: columns of one value; `columns` and `rows`: the others. `only`: these columns."""
    table = [asdict(row) for row in rows]
    names = [field.name for field in fields(rows[0]) if field.name not in _LEFT_OUT]
    names = [name for name in names if only is None or name in only]
    same = {n: table[0][n] for n in names if all(line[n] == table[0][n] for line in table)}
    columns = [name for name in names if name not in same]
    lines = [[_rounded(line[name]) for name in columns] for line in table]
    return {"same": same, "columns": columns, "rows": lines}


def kernel_rows(data: Mapping[str, Any]) -> list[KernelRow]:
    """The rows of kernels that `compact` wrote; columns that it left out are None."""
    return [KernelRow(**values) for values in _values(KernelRow, data)]


def latency_rows(data: Mapping[str, Any]) -> list[LatencyRow]:
    """The same of whole models."""
    return [LatencyRow(**values) for values in _values(LatencyRow, data)]


def _values(row: Any, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    usual: dict[str, Any] = {field.name: None for field in fields(row)}
    usual |= {"point_id": "", "seconds": 0.0, "status": "ok", "message": "", **data["same"]}
    return [usual | dict(zip(data["columns"], line, strict=True)) for line in data["rows"]]


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
