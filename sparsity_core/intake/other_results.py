"""Sensitivity results of other tools, read from their CSV, to lie beside ours."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sparsity_core.errors import SparsityError

_LARGEST = 8 << 20  # bytes
_MOST = 100_000  # points
_DISTILLER = {"layer": "parameter", "sparsity": "sparsity"}
_DISTILLER_VALUES = {"top1": "accuracy", "top5": "top-5", "loss": "loss"}
_WRAPPERS = ("module", "_orig_mod")
_SHARES = ("accuracy", "top-5")


@dataclass(frozen=True)
class OtherPoint:
    """One number that another tool measured; sparsity and accuracies as shares."""

    layer: str  # our name where the model has the layer, else theirs
    known: bool  # has our model this layer?
    sparsity: float
    metric: str
    value: float
    tool: str


@dataclass(frozen=True)
class Columns:
    """Which columns of any table say what."""

    layer: str
    sparsity: str
    value: str
    metric: str = "accuracy"


def read_other(
    content: bytes, layers: Iterable[str], columns: Columns | None = None
) -> list[OtherPoint]:
    """The points of Distiller's CSV, of NNI's, or of any table whose columns are named.

    Distiller: `parameter,sparsity,top1,top5,loss`. NNI: `layername,0.1,0.2,...`, one accuracy a
    column. Per cent and shares are told apart by size. Their names lose `module.` and find ours
    with or without `.weight`. Raises SparsityError for anything else, naming the columns there are.
    """
    table = _table(content)
    if columns is not None:
        _need(table, (columns.layer, columns.sparsity, columns.value))
        values, tool = {columns.value: columns.metric}, "another tool"
        long = table.rename(columns={columns.layer: "layer", columns.sparsity: "sparsity"})
    elif {"parameter", "sparsity"} <= set(table.columns):
        values, tool = {k: v for k, v in _DISTILLER_VALUES.items() if k in table}, "Distiller"
        long = table.rename(columns={theirs: ours for ours, theirs in _DISTILLER.items()})
    elif "layername" in table.columns:
        levels = [name for name in table.columns if _is_number(name)]
        values, tool = {"value": "accuracy"}, "NNI"
        long = table.melt("layername", levels, "sparsity", "value")
        long = long.rename(columns={"layername": "layer"})
    else:
        raise SparsityError(
            "neither Distiller's columns (parameter, sparsity, top1) nor NNI's (layername, 0.1, "
            f"0.2): say which of these is what: {', '.join(map(repr, table.columns[:12]))}"
        )
    points = [
        point for column, metric in values.items() for point in _points(long, column, metric, tool)
    ]
    if not points:
        raise SparsityError("no point with a number is in the table")
    names = _our_names(layers)
    return [replace(point, **_ours(point.layer, names)) for point in points]


def _ours(layer: str, names: Mapping[str, str]) -> dict[str, Any]:
    plain = _plain(layer)
    return {"layer": names.get(plain, layer), "known": plain in names}


def headings(content: bytes) -> list[str]:
    """The columns of a table."""
    return list(map(str, _table(content).columns))


def _table(content: bytes) -> pd.DataFrame:
    if len(content) > _LARGEST:
        raise SparsityError(f"the table has more than {_LARGEST} bytes; use a part of it")
    try:
        table = pd.read_csv(io.BytesIO(content), skipinitialspace=True)
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        said = str(error).splitlines()[0] if str(error) else "empty"
        raise SparsityError(f"no readable CSV ({said})") from error
    if table.size > _MOST * 10:
        raise SparsityError(f"the table has {table.size} cells; use a part of it")
    return table.rename(columns=lambda name: str(name).strip())


def _points(table: pd.DataFrame, column: str, metric: str, tool: str) -> list[OtherPoint]:
    sparsity = pd.to_numeric(table["sparsity"], errors="coerce").to_numpy(float)
    value = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    sound = np.isfinite(sparsity) & np.isfinite(value)
    sparsity = sparsity / 100 if sparsity[sound].max(initial=0) > 1 else sparsity
    if metric in _SHARES and value[sound].max(initial=0) > 1:
        value = value / 100
    names = table["layer"].astype(str).to_list()
    return [
        OtherPoint(_shown(names[i]), False, float(sparsity[i]), metric, float(value[i]), tool)
        for i in np.flatnonzero(sound)[:_MOST]
    ]


def _our_names(layers: Iterable[str]) -> Mapping[str, str]:
    return {_plain(layer): layer for layer in layers}


def _plain(name: str) -> str:
    """A layer's name without wrappers and without saying that it is a weight."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    return ".".join(parts).removesuffix(".weight")


def _shown(name: str) -> str:
    """A stranger's name as it may stand on screen: printable, and not endless."""
    return "".join(c if c.isprintable() else "?" for c in name)[:200]


def _is_number(text: str) -> bool:
    try:
        return 0 <= float(text) <= 100
    except ValueError:
        return False


def _need(table: pd.DataFrame, names: Iterable[str]) -> None:
    if absent := [name for name in names if name not in table.columns]:
        known = ", ".join(map(repr, table.columns[:12]))
        raise SparsityError(f"no column {absent[0]!r}; there are {known}")
