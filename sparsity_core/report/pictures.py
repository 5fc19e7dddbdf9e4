"""The charts of a report, as SVG that needs nothing else."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Lines:
    """A chart: what there is one of for each value, what tells its lines apart, and the axes."""

    facets: tuple[str, ...]
    series: tuple[str, ...]
    x: str
    about_x: str
    y: str = "value"
    about_y: str = ""  # empty: the metric and its samples
    axis: str = "linear"  # log: powers of ten; names: no order, so no lines


_RECIPE = ("scorer", "structure", "allocation", "schedule", "repair", "finetune_epochs")
CHARTS = {
    "sweep": Lines(("scorer", "structure"), ("layer",), "sparsity", "sparsity asked for"),
    "curve": Lines((), _RECIPE, "sparsity", "sparsity asked for"),
    "tickets": Lines((), ("arm", "rewind"), "left", "weights left (log axis)", axis="log"),
    "moving": Lines(
        (), ("rule", "matched", "sparsity"), "step", "step of the training", "validation_value"
    ),
    "kernels": Lines(
        ("rows", "cols", "batch", "cache"), ("kernel",), "sparsity", "sparsity of the mask",
        "speedup_vs_dense", "times as fast as dense",
    ),
    "latency": Lines(
        ("batch",), ("recipe", "kernel"), "layer", "", "speedup", "times as fast as dense",
        axis="names",
    ),
}  # fmt: skip
_SHARES = ("sparsity", "left")
_SETTLED = 0.15  # share of a training that is not drawn


def pictures(kind: str, rows: Sequence[Any]) -> list[tuple[str, str]]:
    """(heading, SVG) of a run's charts; none where nothing was measured."""
    if not rows:
        return []
    what, table = CHARTS[kind], pd.DataFrame([asdict(row) for row in rows])
    if kind == "tickets":
        table["left"] = 1 - table["sparsity"].astype(float)
    if kind == "moving":  # a steep beginning would press the rest into a line
        table = table[table["step"] >= _SETTLED * table["steps"]]
    table = table[table[what.y].notna() & table[what.x].notna()]
    if table.empty:
        return []
    table = table.assign(series=_names(table, what.series))
    facets = list(what.facets)
    parts = table.groupby(facets, sort=False) if facets else [((), table)]
    return [(_heading(facets, key), _svg(_chart(part, what))) for key, part in parts]


def _heading(facets: Sequence[str], key: Sequence[Any]) -> str:
    """Words speak for themselves, numbers do not."""
    return ", ".join(
        value if isinstance(value, str) else f"{name} {value}"
        for name, value in zip(facets, key, strict=True)
    )


def _names(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """A name for each row by the columns in which rows differ."""
    differing = [c for c in columns if table[c].nunique() > 1] or [columns[0]]
    return table.apply(lambda row: ", ".join(_word(c, row[c]) for c in differing), axis=1)


def _word(column: str, value: Any) -> str:
    match column:
        case "finetune_epochs":
            return f"{value} epochs"
        case "rewind":
            return f"to step {value}"
        case "sparsity":
            return "learned" if pd.isna(value) else f"{value:.4g}"
        case "matched":
            return f"as {value}" if value else "own counts"
        case _:
            return str(value or "no repair")


def _chart(table: pd.DataFrame, what: Lines) -> alt.LayerChart:
    first = table.iloc[0]
    names = list(dict.fromkeys(table["series"]))
    seeds = table["seed"].nunique() if "seed" in table else 1
    means = table.groupby(["series", what.x], sort=False, as_index=False)[what.y].mean()
    scales = {
        "color": alt.Scale(domain=names, range=[_COLOURS[i % 6] for i in range(len(names))]),
        "shape": _cycle(names, _SHAPES),
        "dash": _cycle(names, _DASHES),
    }
    base = alt.Chart(means).encode(
        x=_x(what),
        y=alt.Y(
            f"{what.y}:Q",
            title=what.about_y or _about_metric(first, seeds, what.y),
            axis=alt.Axis(format="%" if not what.about_y and is_share(first["metric"]) else ""),
            scale=alt.Scale(zero=False),
        ),
        color=alt.Color("series:N", title=None, scale=scales["color"]),
    )
    marks = base.mark_point(filled=True, size=50).encode(
        shape=alt.Shape("series:N", title=None, scale=scales["shape"])
    )
    layers = [marks]
    if what.axis != "names":
        dash = alt.StrokeDash("series:N", title=None, scale=scales["dash"])
        layers = [base.mark_line().encode(strokeDash=dash), marks]
    level = 1.0 if what.about_y else first.get("dense_value")
    if level is not None:
        rule = alt.Chart(pd.DataFrame({what.y: [level]}))
        layers.insert(0, rule.mark_rule(strokeDash=[2, 4], color="#666666").encode(y=f"{what.y}:Q"))
    if "drop_low" in table and seeds == 1:
        # Of one seed, the paired 95 % interval over samples, hung from the dense value.
        bounds = table.assign(**around_dense(table))
        bars = base.mark_rule(opacity=0.5).encode(y="low:Q", y2="high:Q").properties(data=bounds)
        layers.insert(1, bars)
    chart = alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)
    return chart.configure_legend(labelLimit=400).properties(background="white")


def _cycle(names: Sequence[str], looks: Sequence[Any]) -> alt.Scale:
    """Other looks than colours, so that names of one colour differ in them."""
    return alt.Scale(domain=names, range=[looks[(i + i // 6) % 6] for i in range(len(names))])


def _x(what: Lines) -> alt.X:
    if what.axis == "names":
        return alt.X(f"{what.x}:N", title=what.about_x or None, sort=None)
    axis = alt.Axis(format=".3~%") if what.x in _SHARES else alt.Axis()
    scale = alt.Scale(type="log", reverse=True, nice=False) if what.axis == "log" else alt.Scale()
    return alt.X(f"{what.x}:Q", title=what.about_x, axis=axis, scale=scale)


def _about_metric(first: pd.Series, seeds: int, column: str) -> str:
    split = "validation" if column == "validation_value" else first["split"]
    samples = "" if column == "validation_value" else f"{first['samples']:.0f} "
    told = f"{first['metric']} on {samples}{split} samples"
    return told + (f", mean of {seeds} seeds" if seeds > 1 else "")


def _svg(chart: alt.LayerChart) -> str:
    return str(vl_convert.vegalite_to_svg(chart.to_json()))
