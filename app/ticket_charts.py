"""Ticket experiments against the weights that are left: arms over each other, dense as a line."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import altair as alt
import pandas as pd

from app.theme import GREY, SEQUENTIAL, AnyChart, colours, dashes, shapes
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.row import TicketResult

_TICKS = [100, 70, 50, 30, 20, 10, 5, 3, 2, 1, 0.5, 0.2, 0.1]
_HEIGHT = 380  # pixels, without the legend, which Streamlit fits into the height
HISTORY = {  # what a look saw -> column, title, kind of scale
    "Validation loss": ("loss", "validation loss (nats, log axis)", "log"),
    "Validation accuracy": ("value", "validation {metric} (%)", "linear"),
    "Training loss": ("train_loss", "training loss (nats, log axis)", "log"),
}


def frame_of(rows: Sequence[TicketResult]) -> pd.DataFrame:
    """Rows as a table for charts, in per cent; what finds masks on noise is left out."""
    order = list(ARMS)  # so that an arm has one colour in all charts
    shown = sorted(rows, key=lambda row: order.index(row.arm))
    table = pd.DataFrame([asdict(row) for row in shown if row.arm != "corrupted-finder"])
    if table.empty:
        return table
    several = table["rewind"].nunique() > 1
    for column in ("value", "early_value", "barrier", "calibration_error", "sparsity"):
        table[column] = 100 * pd.to_numeric(table[column])
    table["early_stop"] = pd.to_numeric(table["early_stop"])
    table["left"] = 100 - table["sparsity"]
    table["series"] = [
        ARMS[arm].label + (f", rewound to {rewind}" if several and number else "")
        for arm, rewind, number in zip(table["arm"], table["rewind"], table["round"], strict=True)
    ]
    if several:  # the dense network begins every chain of tickets
        dense = table[(table["arm"] == "ticket") & (table["round"] == 0)]
        for rewind in sorted(set(table["rewind"])):
            name = f"{ARMS['ticket'].label}, rewound to {rewind}"
            table = pd.concat([table, dense.assign(series=name)])
        table = table[
            (table["round"] > 0)
            | (table["arm"] != "ticket")
            | table["series"].str.contains("rewound")
        ]
    return table.reset_index(drop=True)


def means(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row a series and round: the mean over seeds, the lowest and the highest, how many."""
    sound = table[table[column].notna()]
    groups = sound.groupby(["series", "round"], sort=False)
    found = groups[[column, "left"]].mean()
    found["low"], found["high"] = groups[column].min(), groups[column].max()
    found["seeds"] = groups["seed"].nunique()
    return found.reset_index()


def against_left(
    table: pd.DataFrame,
    column: str,
    title: str,
    *,
    dense: Sequence[float] = (),
    dense_name: str = "dense",
    zero: bool = False,
) -> AnyChart:
    """A column against the weights left: means by series, bars from lowest to highest seed.

    `dense`: numbers whose mean is a dashed line and whose range is a grey band behind.
    """
    shown = means(table, column)
    series = list(dict.fromkeys(shown["series"]))
    least = max(float(shown["left"].min()), 0.01) if len(shown) else 1.0
    x = alt.X(
        "left:Q",
        title="weights left (%, log axis)",
        scale=alt.Scale(type="log", reverse=True, domain=[least * 0.9, 105], nice=False),
        axis=alt.Axis(values=_TICKS, labelExpr="format(datum.value, '~g')", grid=True),
    )
    scale = alt.Scale(zero=zero)
    y = alt.Y(f"{column}:Q", title=title, scale=scale)
    legend = alt.Legend(
        title=None, orient="bottom", columns=2, labelLimit=260, symbolOpacity=1, symbolStrokeWidth=0
    )
    colour = alt.Color(
        "series:N",
        sort=series,
        legend=legend,
        scale=alt.Scale(range=colours(len(series)), domain=series),
    )
    shape = alt.Shape(
        "series:N",
        sort=series,
        legend=legend,
        scale=alt.Scale(range=shapes(len(series)), domain=series),
    )
    dash = alt.StrokeDash(
        "series:N",
        sort=series,
        legend=None,
        scale=alt.Scale(range=dashes(len(series)), domain=series),
    )
    tooltip = [
        alt.Tooltip("series:N", title="arm"),
        alt.Tooltip("left:Q", title="weights left (%)", format=".2f"),
        alt.Tooltip("round:Q"),
        alt.Tooltip(f"{column}:Q", title="mean", format=".3~f"),
        alt.Tooltip("low:Q", title="lowest seed", format=".3~f"),
        alt.Tooltip("high:Q", title="highest seed", format=".3~f"),
        alt.Tooltip("seeds:Q"),
    ]
    base = alt.Chart(shown).encode(x, colour)
    layers = [
        *_band(dense, dense_name, scale),
        base.mark_rule(strokeWidth=1.5, opacity=0.55).encode(
            alt.Y("low:Q", scale=scale), alt.Y2("high:Q")
        ),
        base.mark_line(strokeWidth=2).encode(y, dash),
        base.mark_point(filled=True, size=70, opacity=1).encode(y, shape, tooltip=tooltip),
    ]
    return alt.layer(*layers).properties(height=_HEIGHT + 22 * -(-len(series) // 2))


def _band(values: Sequence[float], name: str, scale: alt.Scale) -> list[AnyChart]:
    if not values:
        return []
    frame = pd.DataFrame({"low": [min(values)], "high": [max(values)]})
    frame["at"] = sum(values) / len(values)
    at = alt.Y("at:Q", scale=scale)
    text = alt.value(f"{name} {frame['at'].iloc[0]:.4g}")
    return [
        alt.Chart(frame).mark_rect(color=GREY, opacity=0.18).encode(
            alt.Y("low:Q", scale=scale), alt.Y2("high:Q")
        ),
        alt.Chart(frame).mark_rule(color=GREY, strokeDash=[2, 3], strokeWidth=1.5).encode(at),
        alt.Chart(frame)
        .mark_text(align="right", dx=-4, dy=-7, color=GREY, fontSize=11)
        .encode(at, x=alt.value(alt.expr("width")), text=text),
    ]  # fmt: skip


def history_of(rows: Sequence[TicketResult]) -> pd.DataFrame:
    """Every look of some trainings, one row each, accuracies in per cent."""
    parts = []
    for row in rows:
        looks = pd.DataFrame(json.loads(row.history))
        looks["value"] *= 100
        parts.append(looks.assign(round=row.round, early=looks["step"] == row.early_stop))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def training_curves(looks: pd.DataFrame, shown: str, metric: str) -> AnyChart:
    """A line a round, the darker the earlier; the early stop of each is a diamond."""
    column, title, kind = HISTORY[shown]
    scale = alt.Scale(type="log", nice=False) if kind == "log" else alt.Scale(zero=False)
    colour = alt.Color(
        "round:Q",
        title="round (0 = dense)",
        scale=alt.Scale(scheme={"name": SEQUENTIAL}),
        legend=alt.Legend(orient="top", gradientLength=180, tickMinStep=1, format="d"),
    )
    base = alt.Chart(looks[looks[column] > 0]).encode(
        alt.X("step:Q", title="step of training"),
        alt.Y(f"{column}:Q", title=title.format(metric=metric), scale=scale),
        colour,
        tooltip=["round:Q", "step:Q", alt.Tooltip(f"{column}:Q", format=".4~f")],
    )
    lines = base.mark_line(strokeWidth=1.6).encode(detail="round:N")
    stops = base.transform_filter("datum.early").mark_point(
        shape="diamond", filled=True, size=110, stroke="white", strokeWidth=0.7, opacity=1
    )
    return alt.layer(lines, stops).properties(height=_HEIGHT)
