"""Stored runs as a table that can be searched, and what two of them say about the same points."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import pandas as pd

from app import uploads
from sparsity_core.errors import SparsityError
from sparsity_core.status import STATUSES
from sparsity_core.store import RunInfo

# What names a point, apart from the samples it was measured on.
IDENTITY = {
    "sweep": ("model", "layer", "scorer", "structure", "sparsity", "seed"),
    "curve": (
        *("model", "scorer", "structure", "allocation", "schedule"),
        *("finetune_epochs", "sparsity", "seed"),
    ),
    "tickets": ("model", "arm", "rewind", "round", "sparsity", "seed"),
    "moving": ("model", "rule", "matched", "sparsity", "seed", "step"),
}
_DROPS = ("value", "drop", "drop_low", "drop_high", "status")
_VALUES = {
    "tickets": ("value", "early_value", "early_stop", "status"),
    "moving": ("value", "validation_value", "achieved_sparsity", "status"),
}


def found(runs: Sequence[RunInfo], words: str) -> list[RunInfo]:
    """The runs in which every word occurs: in title, model, kind, state, date or id."""
    wanted = words.lower().split()
    return [
        run
        for run in runs
        for text in [
            f"{run.title} {run.model} {run.kind} {run.state} {_when(run)} {run.id}".lower()
        ]
        if all(word in text for word in wanted)
    ]


def table_of(runs: Sequence[RunInfo]) -> pd.DataFrame:
    """One row a run, with the number of its points by status."""
    columns = ["run", "model", "what", "when", "state", "stored", *STATUSES]
    rows = [
        [run.id[:8], uploads.in_words(run.model), run.title.removeprefix(f"{run.model}: ")]
        + [_when(run), run.state, f"{run.done} of {run.total}"]
        + [run.statuses.get(status, 0) for status in STATUSES]
        for run in runs
    ]
    return pd.DataFrame(rows, columns=columns)


def rows_table(rows: Sequence[Any]) -> pd.DataFrame:
    """Rows as the command writes them to a file: shares from 0 to 1, empty = not measured."""
    table = pd.DataFrame([asdict(row) for row in rows])
    columns = fields(rows[0]) if rows else ()
    whole = [column.name for column in columns if column.type in (int, int | None)]
    return table.astype(dict.fromkeys(whole, "Int64"))


def compared(kind: str, a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The points of two runs side by side, and value B - value A where both have a number.

    Points are joined on all that names them and on which the runs have any value in common; the
    rest (the scorer, when one run has one and the other another) stands in two columns.
    """
    if a.empty or b.empty:
        raise SparsityError("one of the runs has no stored point; resume it, or choose another")
    shared = [name for name in IDENTITY[kind] if set(a[name]) & set(b[name])]
    if not shared:
        raise SparsityError("the runs have nothing in common to compare them by")
    own = [name for name in IDENTITY[kind] if name not in shared]
    columns = [*shared, *own, *_VALUES.get(kind, _DROPS), "metric", "samples", "split"]
    if "layer" in own and a.duplicated(shared).any() and b.duplicated(shared).any():
        raise SparsityError(
            "the runs share no layer, and each has several: no point of one answers to a point of "
            "the other; open two runs with a layer in common"
        )
    joined = a[columns].merge(b[columns], on=shared, suffixes=(" A", " B"))
    if joined.empty:
        raise SparsityError("the runs share no point: no layer or recipe has a sparsity in both")
    joined["B - A"] = pd.to_numeric(joined["value B"]) - pd.to_numeric(joined["value A"])
    return joined


def differing(kind: str, a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    """In words, how the runs differ apart from the points: samples, split, models, scorers."""
    words = []
    for name in (*IDENTITY[kind], "split", "samples", "metric", "device", "versions"):
        in_a, in_b = (sorted(map(str, set(table[name].dropna()))) for table in (a, b))
        if in_a != in_b:
            words.append(f"{name}: A {', '.join(in_a) or 'none'}; B {', '.join(in_b) or 'none'}")
    return words


def _when(run: RunInfo) -> str:
    return datetime.fromtimestamp(run.created).strftime("%Y-%m-%d %H:%M")
