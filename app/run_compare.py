"""Two runs side by side, joined on what they share."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from app import export, uploads
from app.run_charts import scatter
from app.run_table import IDENTITY, compared, differing, rows_table
from sparsity_core.store import RunInfo, Store
from sparsity_core.units import PER_CENT, Unit, unit_of

_MEASURED = ["B - A"] + [
    f"{name} {run}" for name in ("value", "drop", "drop_low", "drop_high") for run in "AB"
]


def draw_two(store: Store, runs: Sequence[RunInfo]) -> None:
    """Two runs, joined on what they share: both numbers and their difference."""
    a, b = runs
    st.subheader("A against B")
    st.markdown(uploads.in_words(f"**A** {a.id[:8]}: {a.title}  \n**B** {b.id[:8]}: {b.title}"))
    if a.kind != b.kind:
        st.warning(
            f"A is of kind {a.kind} and B of kind {b.kind}: they have no points in common. Open "
            "two runs of one kind."
        )
        return
    if a.kind not in IDENTITY:
        st.warning("Times of two runs are not joined point by point; open one run at a time.")
        return
    in_a, in_b = (rows_table(store.rows(store.plan(run.id))) for run in runs)
    joined = compared(a.kind, in_a, in_b)
    st.caption("  \n".join(differing(a.kind, in_a, in_b)))
    by = next(
        (name for name in IDENTITY[a.kind][1:] if name in joined and joined[name].nunique() > 1),
        "sparsity",
    )
    measured = joined["B - A"].notna()
    metric = in_a["metric"].iloc[0]
    if measured.any():
        export.show(
            scatter(joined, by, metric), joined, f"compare-{a.id[:8]}-{b.id[:8]}",
            command=f"sparsity runs {a.id[:8]} --out a.csv\nsparsity runs {b.id[:8]} --out b.csv",
            python=_join_python(joined, a, b), key="scatter",
        )  # fmt: skip
    unit = unit_of(metric)
    mean = unit.scale * joined["B - A"].mean()
    st.caption(
        f"{len(joined)} points in both, {int(measured.sum())} measured in both"
        + (
            f"; mean difference B - A {mean:{unit.signed}}{' points' * (unit is PER_CENT)}. "
            if measured.any()
            else ". "
        )
        + "Each number is a mean over its run's samples; the interval of a drop is that of its own "
        "run, and the difference has none, since single samples are not stored."
    )
    shown = joined.drop(columns=[name for name in joined if name.startswith("metric")])
    present = [name for name in _MEASURED if name in shown]
    shown[present] = unit.scale * shown[present].apply(pd.to_numeric)
    shown["sparsity"] = 100 * shown["sparsity"]
    st.dataframe(
        shown.rename(columns=partial(_heading, unit)).style.format(precision=unit.precision),
        hide_index=True,
        placeholder="",
    )


def _heading(unit: Unit, name: str) -> str:
    share = unit is PER_CENT
    names = {"sparsity": "asked (%)", "B - A": "B - A (points)" if share else "B - A"}
    if name.startswith("value "):
        return unit.title(name)
    if name.startswith("drop"):
        words = name.replace("_", " ")
        return f"{words} (points)" if share else words.replace("drop", "change for the worse")
    return names.get(name, name)


def _join_python(joined: pd.DataFrame, a: RunInfo, b: RunInfo) -> str:
    shared = [name for name in IDENTITY[a.kind] if name in joined]
    return f"""import pandas as pd

from sparsity_core.store import Store

store = Store()
a, b = (
    pd.DataFrame(store.rows(store.plan(run)))
    for run in ({a.id!r}, {b.id!r})
)
joined = a.merge(b, on={shared!r}, suffixes=(" A", " B"))
joined["B - A"] = joined["value B"] - joined["value A"]"""
