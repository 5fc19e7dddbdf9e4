"""A run as a Jupyter notebook that measures the same points again, through sparsity_core alone."""

import json
from collections.abc import Sequence
from pprint import pformat
from typing import Any

from sparsity_core.digest import digest_of
from sparsity_core.machine import versions
from sparsity_core.plans import Plan
from sparsity_core.store import RunInfo


def notebook(run: RunInfo, plan: Plan, rows: Sequence[Any]) -> str:
    """The JSON of a notebook (format 4.5), without outputs."""
    cells = [_markdown(_intro(run, plan, rows)), *map(_code, _steps(run, plan, rows))]
    content = {
        "cells": [cell | {"id": digest_of([i, cell["source"]])} for i, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1)


def _intro(run: RunInfo, plan: Plan, rows: Sequence[Any]) -> str:
    measured = next((row.device for row in rows), "nowhere yet")
    return (
        f"# {run.title}\n\nMeasures the {run.total} points of run {run.id} again "
        f"({len(rows)} are stored, measured on {measured}; this notebook was written by "
        f"{versions()}). It needs `sparsity-explorer` and the data of `{plan.model}`, whose "
        "digests are checked: other data or another model is refused, not measured.\n"
    )


def _steps(run: RunInfo, plan: Plan, rows: Sequence[Any]) -> list[str]:
    stored = {row.point_id: getattr(row, "value", None) for row in rows}
    return [
        f"""from sparsity_core.plans import plan_from_dict

plan = plan_from_dict({pformat(plan.to_dict(), width=96, sort_dicts=False)})
assert plan.digest == {run.id!r}
len(plan.points())""",
        """from sparsity_core.executors import InProcess

# For several processes: WorkerProcesses(4).
points = plan.points()
rows = list(InProcess().run(plan, plan.groups(points), stopped=lambda: False))""",
        """from dataclasses import asdict

import pandas as pd

table = pd.DataFrame([asdict(row) for row in rows])
table""",
        f"""# What the run has stored, point by point; another machine may differ in single samples.
stored = {pformat(stored, width=96)}
if "value" in table:
    known = table["point_id"].map(stored).astype(float)
    compared = table[["point_id", "value"]].assign(
        stored=known, difference=table["value"].astype(float) - known
    )
    print(compared["difference"].abs().max(), "is the largest difference")""",
        _CHART.get(plan.kind, "table.describe()"),
    ]


def _chart(colour: str, facet: str) -> str:
    return f"""import altair as alt

alt.Chart(table.dropna(subset=["value"])).mark_line(point=True).encode(
    x=alt.X("sparsity:Q", axis=alt.Axis(format="%")),
    y=alt.Y("mean(value):Q", title=plan.setting.metric, scale=alt.Scale(zero=False)),
    color="{colour}:N",
    strokeDash="{facet}:N",
).properties(width=600)"""


_CHART = {"sweep": _chart("layer", "structure"), "curve": _chart("scorer", "finetune_epochs")}


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str) -> dict[str, Any]:
    return {
        "cell_type": "code", "metadata": {}, "source": text, "outputs": [], "execution_count": None,
    }  # fmt: skip
