"""The charts of a report, as SVG that needs nothing else."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from sparsity_core.metrics import is_share
from sparsity_core.units import around_dense

# Okabe & Ito 2008; shapes and dashes tell the same for those who see no colours.
_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"]
_SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross"]
_DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 1]]
_WIDTH, _HEIGHT = 640, 320
# Kinds of runs with charts: what each chart has one of, and what tells its lines apart.
CHARTED = {
    "sweep": (["scorer", "structure"], "layer"),
    "curve": (
        [],
        ["scorer", "structure", "allocation", "schedule", "repair", "finetune_epochs"],
    ),
}


def pictures(kind: str, rows: Sequence[Any]) -> list[tuple[str, str]]:
    """(heading, SVG) of a run's charts; none for kinds of runs that have only tables here."""
    if kind not in CHARTED or not rows:
        return []
    table = pd.DataFrame([asdict(row) for row in rows])
    table = table[table["value"].notna()]
    if table.empty:
        return []
    facets, series = CHARTED[kind]
    table = table.assign(series=_names(table, [series] if isinstance(series, str) else series))
    parts = table.groupby(facets, sort=False) if facets else [((), table)]
    return [(", ".join(map(str, key)), _svg(_chart(part))) for key, part in parts]


def _names(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """A name for each row by the columns in which rows differ."""
    differing = [c for c in columns if table[c].nunique() > 1] or [columns[0]]

    def name(row: pd.Series) -> str:
        words = [
            f"{row[c]} epochs" if c == "finetune_epochs" else str(row[c] or "no repair")
            for c in differing
        ]
        return ", ".join(words)

    return table.apply(name, axis=1)


def _chart(table: pd.DataFrame) -> alt.LayerChart:
    first = table.iloc[0]
    names = list(dict.fromkeys(table["series"]))
    means = table.groupby(["series", "sparsity"], sort=False, as_index=False)["value"].mean()
    many = range(len(names))
    scales = {
        "color": alt.Scale(domain=names, range=[_COLOURS[i % 6] for i in many]),
        "shape": alt.Scale(domain=names, range=[_SHAPES[(i + i // 6) % 6] for i in many]),
        "dash": alt.Scale(domain=names, range=[_DASHES[(i + i // 6) % 6] for i in many]),
    }
    axis = alt.Axis(format="%") if is_share(first["metric"]) else alt.Axis()
    seeds = table["seed"].nunique()
    told = f"{first['metric']} on {first['samples']:.0f} {first['split']} samples"
    told += f", mean of {seeds} seeds" if seeds > 1 else ""
    bounds = table.assign(**around_dense(table))[: len(table) if seeds == 1 else 0]
    base = alt.Chart(means).encode(
        x=alt.X("sparsity:Q", title="sparsity asked for", axis=alt.Axis(format="%")),
        y=alt.Y("value:Q", title=told, axis=axis, scale=alt.Scale(zero=False)),
        color=alt.Color("series:N", title=None, scale=scales["color"]),
    )
    dense = (
        alt.Chart(pd.DataFrame({"dense": [first["dense_value"]]}))
        .mark_rule(strokeDash=[2, 4], color="#666666")
        .encode(y="dense:Q")
    )
    lines = base.mark_line().encode(
        strokeDash=alt.StrokeDash("series:N", title=None, scale=scales["dash"])
    )
    marks = base.mark_point(filled=True, size=50).encode(
        shape=alt.Shape("series:N", title=None, scale=scales["shape"])
    )
    # Of one seed, the paired 95 % interval over samples, hung from the dense value.
    bars = base.mark_rule(opacity=0.5).encode(y="low:Q", y2="high:Q").properties(data=bounds)
    chart = (dense + bars + lines + marks).properties(width=_WIDTH, height=_HEIGHT)
    return chart.configure_legend(labelLimit=400).properties(background="white")


def _svg(chart: alt.LayerChart) -> str:
    return str(vl_convert.vegalite_to_svg(chart.to_json()))
