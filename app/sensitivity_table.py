"""Rows of a sweep as a table for charts: shown units, words for odd points, means over seeds."""

from collections.abc import Sequence

import pandas as pd

from sparsity_core.status import OPEN
from sparsity_core.sweep.asked import said, stopped
from sparsity_core.sweep.point import Result
from sparsity_core.sweep.sequential import Question
from sparsity_core.units import around_dense, in_units

_OPEN, _STOPPED = "still open", "stopped early"
SOUND = ("measured", _OPEN, _STOPPED)  # marks of points whose number stands for itself


def frame_of(rows: Sequence[Result], question: Question | None = None) -> pd.DataFrame:
    """Rows as a table for charts: per cent and points instead of shares; early answers in words.

    Numbers of a metric that is no share stay as they are.
    """
    table = pd.DataFrame(
        [vars(row) | {"mark": _mark(row), "answer": _answer(question, row)} for row in rows]
    )
    if table.empty:
        return table
    for name in ("value", "dense_value", "drop", "drop_low", "drop_high"):
        table[name] = in_units(rows).scale * pd.to_numeric(table[name])
    for name in ("sparsity", "achieved_sparsity"):
        table[name] = 100 * pd.to_numeric(table[name])
    table[["low", "high"]] = around_dense(table)
    table["way"] = table["scorer"] + " · " + table["structure"]
    return table


def _mark(row: Result) -> str:
    if row.status == OPEN:
        return _OPEN
    if row.status == "collapsed":
        return "layer emptied"
    if row.no_op and row.sparsity > 0:
        return "changed nothing"
    return _STOPPED if stopped(row) else "measured"


def _answer(question: Question | None, row: Result) -> str:
    """What an early answer says of a question, as short as a cell of the heatmap is wide."""
    if question is None or question.threshold is None or row.status not in ("ok", OPEN):
        return ""
    signs = {"at most": "≤", "more than": ">", "open": "?"}
    sign = signs[said(question, row) or "open"]
    return sign if sign == "?" else f"{sign} {100 * question.threshold:.4g}"


def averaged(table: pd.DataFrame, by: list[str], keep_unmeasured: bool = False) -> pd.DataFrame:
    """The mean over seeds, where there are several."""
    keys = [*by, "sparsity"]
    if not keep_unmeasured:
        table = table[table["value"].notna()]
    if table.empty:
        return table.copy()
    numbers = ["value", "dense_value", "drop", "low", "high", "achieved_sparsity"]
    words = ["mark", "status", "message", "answer"]
    grouped = table.groupby(keys, sort=False)
    said = grouped[words].agg(lambda found: ", ".join(dict.fromkeys(filter(None, found))))
    rest = grouped[["samples", "split"]].first()
    return grouped[numbers].mean().join([said, rest]).reset_index()
