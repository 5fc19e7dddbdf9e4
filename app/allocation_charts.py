"""Allocations drawn: bars of each rule, what is left of each layer, forecasts beside the truth."""

from typing import Any

import altair as alt
import pandas as pd

from app.theme import GREY, HIGHLIGHT, PALETTE, AnyChart, colours, shapes
from sparsity_core.setting import Setting

_SHORT = "replace(datum.label, /[.]weight$/, '')"  # every layer is a weight: no need to say it
_SIGN = {"emptied": "×", "nearly emptied": "!"}
_PAIR = [
    alt.Tooltip("name:N"),
    alt.Tooltip("achieved:Q", title="achieved, all prunable weights (%)", format=".1f"),
    alt.Tooltip("forecast:Q", title="forecast of the rise", format="+.4f"),
    alt.Tooltip("measured:Q", title="measured rise", format="+.4f"),
    alt.Tooltip("low:Q", title="95 % from", format="+.4f"),
    alt.Tooltip("high:Q", title="95 % to", format="+.4f"),
    alt.Tooltip("drop:Q", title="drop of the metric", format="+.2f"),
    alt.Tooltip("status:N"),
    alt.Tooltip("message:N"),
]
_TOOLTIP = [
    alt.Tooltip("rule:N"),
    alt.Tooltip("layer:N"),
    alt.Tooltip("asked:Q", title="asked (%)", format=".2f"),
    alt.Tooltip("achieved:Q", title="achieved (%)", format=".2f"),
    alt.Tooltip("kept:Q", title="weights kept", format=","),
    alt.Tooltip("weights:Q", format=","),
    alt.Tooltip("kept_units:Q", title="units kept", format=","),
    alt.Tooltip("rise:Q", title="loss rise alone", format="+.4f"),
    alt.Tooltip("mark:N", title="warning"),
]


def bars(table: pd.DataFrame, target: float | None) -> dict[str, Any]:
    """One rule: the sparsity of each layer, in the model's order, with the target as a line.

    A plain Vega-Lite specification: checking eight of them by Altair takes longer than a drag may.
    """
    layers = list(table["layer"])
    rows = table.assign(
        text=[
            f"{achieved:.1f}{_SIGN.get(mark, '')}"
            for achieved, mark in zip(table["achieved"], table["mark"], strict=True)
        ]
    )
    labels = {"labelExpr": _SHORT, "labelLimit": 110, "labelOverlap": False, "labelFlush": False}
    y = {"field": "layer", "type": "nominal", "sort": layers, "title": None, "axis": labels}
    x = {
        "field": "achieved",
        "type": "quantitative",
        "title": None,
        "scale": {"domain": [0, 100]},
        "axis": {"values": [0, 50, 100], "labelExpr": "datum.label + ' %'"},
    }
    tooltip = [line.to_dict() for line in _TOOLTIP]
    drawn: list[dict[str, Any]] = [
        {"mark": {"type": "bar", "color": PALETTE[0]}, "encoding": {"x": x, "tooltip": tooltip}},
        {
            "mark": {"type": "text", "align": "left", "dx": 4, "color": GREY, "fontSize": 11},
            "encoding": {"x": {"value": "width"}, "text": {"field": "text", "type": "nominal"}},
        },
    ]
    if target is not None:
        mark = {"type": "rule", "color": HIGHLIGHT, "strokeDash": [4, 3], "strokeWidth": 1.5}
        at = {key: value for key, value in x.items() if key != "field"} | {"datum": target}
        drawn.append({"data": {"values": [{}]}, "mark": mark, "encoding": {"x": at, "y": None}})
    return {
        "data": {"values": rows.to_dict("records")},
        "encoding": {"y": y},
        "layer": drawn,
        "height": {"step": 15 if len(layers) > 8 else 22},
        "padding": {"left": 0, "right": 44, "top": 4, "bottom": 0},
    }


def all_bars(table: pd.DataFrame) -> AnyChart:
    """All rules on one sheet, for paper."""
    layers = list(dict.fromkeys(table["layer"]))
    panel = (
        alt.Chart(table)
        .mark_bar(color=PALETTE[0])
        .encode(
            _percent("achieved").title("sparsity achieved"),
            alt.Y("layer:N", sort=layers, title=None, axis=_names()),
        )
        .properties(width=180)
    )
    rules = list(dict.fromkeys(table["rule"]))
    return panel.facet(facet=alt.Facet("rule:N", sort=rules, title=None), columns=3)


def radar(table: pd.DataFrame) -> AnyChart:
    """What each rule leaves of each layer, in per cent, with signs where it is next to nothing."""
    layers, rules = (list(dict.fromkeys(table[name])) for name in ("layer", "rule"))
    table = table.assign(
        text=[
            f"{_short(share)}{_SIGN.get(mark, '')}"
            for share, mark in zip(table["kept_share"], table["mark"], strict=True)
        ],
        # Viridis is dark at its low end: white ink there.
        ink=["black" if share > 45 else "white" for share in table["kept_share"]],
    )
    base = alt.Chart(table).encode(
        alt.X(
            "rule:N",
            sort=rules,
            title=None,
            axis=alt.Axis(labelAngle=-60, orient="top", labelOverlap=False),
        ),
        alt.Y("layer:N", sort=layers, title=None, axis=_names()),
    )
    boxes = base.mark_rect(stroke=GREY, strokeWidth=0.5).encode(
        alt.Color(
            "kept_share:Q",
            title="weights kept (%)",
            scale=alt.Scale(scheme="viridis", type="sqrt", domain=[0, 100]),
            legend=alt.Legend(orient="bottom", gradientLength=160),
        ),
        tooltip=_TOOLTIP,
    )
    words = base.mark_text(fontSize=10.5).encode(
        text="text:N", color=alt.Color("ink:N", scale=None)
    )
    ring = base.transform_filter("datum.mark != ''").mark_rect(
        filled=False, stroke=HIGHLIGHT, strokeWidth=2.5
    )
    # The words' ink is given, not scaled, so it must not share the colour scale of the boxes.
    drawn = alt.layer(boxes, words, ring).resolve_scale(color="independent")
    return drawn.properties(height=190 + (26 if len(layers) < 12 else 19) * len(layers))


def _names() -> alt.Axis:
    return alt.Axis(labelExpr=_SHORT, labelLimit=110, labelOverlap=False, labelFlush=False)


def _percent(column: str) -> alt.X:
    return alt.X(
        f"{column}:Q",
        title=None,
        scale=alt.Scale(domain=[0, 100]),
        axis=alt.Axis(values=[0, 50, 100], labelExpr="datum.label + ' %'", labelFlush=True),
    )


def _short(share: float) -> str:
    return f"{share:.0f}" if share >= 9.95 else f"{share:.1f}" if share >= 0.095 else f"{share:.2g}"


def dumbbell(table: pd.DataFrame, setting: Setting, counted_in: str) -> AnyChart:
    """Forecast and measured loss rise of each row, on one line."""
    x = f"loss rise ({counted_in}, {setting.samples:,} {setting.split} samples)"
    y = alt.Y("rule:N", title=None, sort=list(table["rule"]))
    base = alt.Chart(table).encode(y)
    kinds = ("forecast", "measured")
    points = (
        base.transform_fold(list(kinds), as_=["what", "rise"])
        .mark_point(filled=True, size=130, opacity=1)
        .encode(
            alt.X("rise:Q", title=x),
            alt.Color(
                "what:N",
                title=None,
                scale=alt.Scale(domain=list(kinds), range=list(PALETTE[1::-1])),
                legend=alt.Legend(orient="bottom"),
            ),
            alt.Shape(
                "what:N",
                title=None,
                scale=alt.Scale(domain=list(kinds), range=["diamond", "circle"]),
            ),
            tooltip=_PAIR,
        )
    )
    between = base.mark_rule(color=GREY, strokeDash=[3, 3]).encode(
        alt.X("forecast:Q", title=x), alt.X2("measured:Q")
    )
    interval = base.mark_rule(color=PALETTE[0], strokeWidth=3, opacity=0.5).encode(
        alt.X("low:Q", title=x), alt.X2("high:Q")
    )
    zero = alt.Chart(pd.DataFrame({"rise": [0.0]})).mark_rule(color=GREY).encode(alt.X("rise:Q"))
    return alt.layer(zero, interval, between, points).properties(height=110 + 30 * len(table))


def additivity(table: pd.DataFrame, setting: Setting, counted_in: str) -> AnyChart:
    """Measured joint loss rise over the sum of single layers, with the line on which they agree."""
    rules = list(dict.fromkeys(table["rule"]))
    most = max(float(table[["forecast", "high"]].max().max()), 0.01)
    least = min(float(table[["forecast", "low"]].min().min()), 0.0)
    # Rises span decades and may be below zero: linear near zero, logarithmic further out.
    scale = alt.Scale(type="symlog", constant=0.05, domain=[least, 1.1 * most], nice=False)
    axis = alt.Axis(values=[-0.1, 0, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], format="~g")
    x = alt.X(
        "forecast:Q", title=f"sum of layers pruned alone ({counted_in})", scale=scale, axis=axis
    )
    title = f"measured ({counted_in}, {setting.samples:,} {setting.split} samples)"
    y = alt.Y("measured:Q", title=title, scale=scale, axis=axis)
    ends = pd.DataFrame({"forecast": [least, most], "measured": [least, most]})
    line = alt.Chart(ends).mark_line(color=GREY, strokeDash=[4, 4], strokeWidth=1.5).encode(x, y)
    legend = alt.Legend(title="rule", orient="bottom", columns=3, symbolOpacity=1)
    colour = alt.Color(
        "rule:N",
        sort=rules,
        legend=legend,
        scale=alt.Scale(domain=rules, range=colours(len(rules))),
    )
    shape = alt.Shape(
        "rule:N", sort=rules, legend=legend, scale=alt.Scale(domain=rules, range=shapes(len(rules)))
    )
    base = alt.Chart(table).encode(x, colour)
    spread = base.mark_rule(opacity=0.5).encode(
        alt.Y("low:Q", scale=scale, title=title), alt.Y2("high:Q")
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(y, shape, tooltip=_PAIR)
    return alt.layer(line, spread, points).properties(height=480)
