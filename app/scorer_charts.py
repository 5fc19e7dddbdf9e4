"""Scorers drawn: histograms with their cut, ranks against ranks, every two correlated."""

import math
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from app.overlap_charts import PARTS
from app.scorer_view import Histogram
from app.theme import DIVERGING, GREY, HIGHLIGHT, PALETTE, AnyChart

_PARTS = PARTS | {"none": (GREY, "circle")}
_LOW = 270  # pixels of a histogram with its axis and legend
_WHOLE: dict[str, Any] = {"labelOverlap": False, "labelLimit": 200}  # no name is cut
_WORDED = 20  # scorers up to which a cell of the matrix is wide enough for its number


def histogram(found: Histogram, cut: float | None, title: str, unit: str) -> AnyChart:
    """Units by score, stacked: kept ones blue, pruned ones grey; the cut as a rule."""
    kept = alt.Color(
        "part:N",
        title=None,
        scale=alt.Scale(domain=["kept", "pruned"], range=[PALETTE[0], "#b0b0b0"]),
        legend=alt.Legend(orient="top"),
    )
    bars = (
        alt.Chart(found.bars)
        .mark_bar(binSpacing=0)
        .encode(
            x=alt.X("left:Q", bin="binned", title=title, scale=_scale(found), axis=_axis(found)),
            x2="right:Q",
            y=alt.Y("units:Q", title=unit, stack="zero", axis=alt.Axis(tickMinStep=1)),
            color=kept,
            order=alt.Order("part:N"),
            tooltip=[
                alt.Tooltip("left:Q", title="score from", format=".3g"),
                alt.Tooltip("right:Q", title="to", format=".3g"),
                alt.Tooltip("part:N"),
                alt.Tooltip("units:Q", title=unit),
            ],
        )
    )
    if cut is None:
        # A layer too, so that the two charts side by side are laid out alike.
        return alt.layer(bars).properties(height=_LOW)
    # A cut among zeros has no place on a log axis but theirs.
    place = found.zero if found.axis == "log" and cut <= 0 else cut
    rule = (
        alt.Chart(pd.DataFrame({"left": [place]}))
        .mark_rule(color=HIGHLIGHT, strokeWidth=2, strokeDash=[5, 3])
        .encode(x="left:Q", tooltip=alt.value(f"cut: {cut:.3g}"))
    )
    return alt.layer(bars, rule).properties(height=_LOW)


def rank_scatter(table: pd.DataFrame, a: str, b: str, cut: float | None) -> AnyChart:
    """Each unit by its rank under A and under B; colour and shape say who keeps it."""
    domain, looks = list(_PARTS), list(_PARTS.values())
    scale = alt.Scale(domain=[0, 100])
    legend = alt.Legend(orient="top", symbolOpacity=1, symbolSize=80, columns=4)
    points = (
        alt.Chart(table)
        .mark_point(filled=True, size=max(26, min(110, 12_000 // len(table))), opacity=0.7)
        .encode(
            x=alt.X("a:Q", title=f"rank by A, {a} (%, 100 = best)", scale=scale),
            y=alt.Y("b:Q", title=f"rank by B, {b} (%, 100 = best)", scale=scale),
            color=alt.Color(
                "kept by:N",
                legend=legend,
                scale=alt.Scale(domain=domain, range=[colour for colour, _ in looks]),
            ),
            shape=alt.Shape(
                "kept by:N",
                legend=legend,
                scale=alt.Scale(domain=domain, range=[shape for _, shape in looks]),
            ),
            tooltip=[
                alt.Tooltip("unit:Q"),
                alt.Tooltip("kept by:N"),
                alt.Tooltip("a:Q", title="rank by A (%)", format=".1f"),
                alt.Tooltip("b:Q", title="rank by B (%)", format=".1f"),
                alt.Tooltip("score a:Q", title="score by A", format=".3g"),
                alt.Tooltip("score b:Q", title="score by B", format=".3g"),
            ],
        )
    )
    if cut is None:
        return points.properties(height=420)
    line = alt.Chart(pd.DataFrame({"at": [100 * cut]}))
    rules = [
        line.mark_rule(color=GREY, strokeDash=[4, 4]).encode(channel)
        for channel in (alt.X("at:Q", scale=scale), alt.Y("at:Q", scale=scale))
    ]
    return alt.layer(points, *rules).properties(height=420)


def matrix(table: pd.DataFrame, a: str, b: str) -> AnyChart:
    """Every two scorers' rank correlation; clicking a cell is the selection `pair`."""
    kinds = list(table.columns)
    cells = pd.DataFrame(
        {"row": row, "column": column, "value": table.loc[row, column]}
        for row in kinds
        for column in kinds
    )
    cells["text"] = [_short(value) for value in cells["value"]]
    # Both ends of the scheme are dark, its middle is light.
    cells["ink"] = ["white" if abs(v) > 0.75 else "black" for v in cells["value"].fillna(0)]
    x = alt.X("column:N", sort=kinds, title="B", axis=alt.Axis(labelAngle=-50, **_WHOLE))
    y = alt.Y("row:N", sort=kinds, title="A", axis=alt.Axis(**_WHOLE))
    base = alt.Chart(cells).encode(x, y)
    boxes = (
        base.mark_rect(stroke=GREY, strokeWidth=0.4)
        .encode(
            color=alt.condition(
                "isValid(datum.value)",
                alt.Color(
                    "value:Q",
                    title="rank correlation",
                    scale=alt.Scale(scheme={"name": DIVERGING}, domain=[-1, 1], domainMid=0),
                    legend=alt.Legend(orient="top", gradientLength=160),
                ),
                alt.value("transparent"),
            ),
            tooltip=[
                alt.Tooltip("row:N", title="A"),
                alt.Tooltip("column:N", title="B"),
                alt.Tooltip("value:Q", title="Spearman", format=".3f"),
            ],
        )
        .add_params(alt.selection_point(name="pair", fields=["row", "column"], on="click"))
    )
    most = 11 if len(kinds) <= _WORDED else 8
    size = alt.expr(f"min({most}, width / {2.2 * len(kinds):.4g})")  # a narrow screen: narrow cells
    words = base.mark_text(fontSize=size).encode(
        text="text:N", color=alt.Color("ink:N", scale=None)
    )
    ring = (
        alt.Chart(cells[(cells["row"] == a) & (cells["column"] == b)])
        .mark_rect(filled=False, stroke=PALETTE[0], strokeWidth=3.5)
        .encode(x, y)
    )
    drawn = alt.layer(boxes, words, ring).resolve_scale(color="independent")
    return drawn.properties(height=150 + 27 * len(kinds))


def _short(value: float) -> str:
    """Two digits without the zero before the point: a cell is narrow."""
    if math.isnan(value):
        return ""
    return f"{value:.2f}".replace("0.", ".", 1).replace("-.00", ".00")


def _scale(found: Histogram) -> alt.Scale:
    if found.axis == "symlog":
        return alt.Scale(type="symlog", constant=found.constant, nice=False)
    low, high = float(found.bars["left"].min()), float(found.bars["right"].max())
    if found.axis == "log":
        return alt.Scale(type="log", domain=[low, high], nice=False)
    return alt.Scale(domain=[low, high], nice=False)


def _axis(found: Histogram) -> alt.Axis:
    if found.axis == "linear":
        return alt.Axis(format="~g", tickCount=6)
    text = "format(datum.value, '~g')"
    if not np.isnan(found.zero):
        # On a log axis zero has no place: its bar stands left of the others, under its own tick.
        text = f"datum.value < {found.zero * 1.001!r} ? '0' : {text}"
    return alt.Axis(values=found.ticks, labelExpr=text, labelOverlap=True)
