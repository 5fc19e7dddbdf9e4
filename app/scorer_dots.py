"""Scorers beside chance: a dot each with its interval, over the band of random scores."""

from typing import Any

import altair as alt
import pandas as pd

from app.theme import GREY, PALETTE, AnyChart
from sparsity_core.units import PER_CENT, Unit

BEATS, UNCLEAR, NO_BETTER = "beats chance", "unclear", "no better than chance"
EMPTIED = "empties a layer"
_LOOKS = {  # what a point is -> colour, shape
    BEATS: (PALETTE[0], "circle"),
    UNCLEAR: (PALETTE[1], "square"),
    NO_BETTER: (PALETTE[4], "cross"),
    EMPTIED: (PALETTE[4], "triangle-down"),
    "shuffled": (PALETTE[3], "diamond"),
    "random": (GREY, "triangle-up"),
    "not compared yet": (PALETTE[5], "circle"),
}


def dots(table: pd.DataFrame, title: str, unit: Unit) -> AnyChart:
    """Best on top; those that do not beat chance bear a sign before their name as well."""
    known = table[table["value"].notna()].copy()
    known["mark"] = known["control"].where(known["control"] != "", known["verdict"])
    known["mark"] = known["mark"].where(known["mark"] != "", "not compared yet")
    known["scorer"] = known["scorer"].map(_signs(known)).fillna(known["scorer"])
    own = known[known["control"] != "shuffled"]
    order = list(own.groupby("scorer")["drop"].mean().sort_values().index)
    order += [scorer for scorer in dict.fromkeys(known["scorer"]) if scorer not in order]
    marks = [mark for mark in _LOOKS if (known["mark"] == mark).any()]
    ends = known[["low", "high", "value", "dense_value"]]
    least, most = float(ends.min().min()), float(ends.max().max())
    room = 2.0 if unit is PER_CENT else 0.04 * ((most - least) or 1.0)
    domain = [least - room, min(101.0, most + room) if unit is PER_CENT else most + room]
    scale = alt.Scale(domain=domain, nice=False)
    x = alt.X("value:Q", title=title, scale=scale)
    axis = alt.Axis(labelOverlap=False, labelLimit=200, grid=True)
    y = alt.Y("scorer:N", sort=order, title=None, axis=axis)
    colour = alt.Color(
        "mark:N",
        scale=alt.Scale(domain=marks, range=[_LOOKS[mark][0] for mark in marks]),
        legend=alt.Legend(title=None, orient="top", columns=2, symbolSize=90, labelLimit=260),
    )
    shape = alt.Shape(
        "mark:N", scale=alt.Scale(domain=marks, range=[_LOOKS[mark][1] for mark in marks])
    )
    base = alt.Chart(known).encode(y=y, color=colour)
    points = base.mark_point(filled=True, size=95, opacity=0.9).encode(
        x=x, shape=shape, tooltip=_tooltip(unit)
    )
    measured = known["control"] == ""
    bars = alt.Chart(known[measured]).encode(y=y, color=colour)
    intervals = bars.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", scale=scale), x2="high:Q")
    layers = [*_band(known, x), *_dense(known, x, unit), intervals, points]
    return alt.layer(*layers).properties(height=100 + 26 * len(order))


def _band(known: pd.DataFrame, x: alt.X) -> list[AnyChart]:
    chance = known.loc[known["control"] == "random", "value"]
    if chance.empty:
        return []
    band = pd.DataFrame({"value": [chance.min()], "to": [chance.max()]})
    return [alt.Chart(band).mark_rect(color=GREY, opacity=0.25).encode(x, x2="to:Q")]


def _dense(known: pd.DataFrame, x: alt.X, unit: Unit) -> list[AnyChart]:
    value = known["dense_value"].iloc[0]
    rule = alt.Chart(pd.DataFrame({"value": [value]}))
    name = f"dense {value:.1f} %" if unit is PER_CENT else f"dense {value:.4g}"
    text: dict[str, Any] = {"align": "right", "dx": -5, "color": GREY, "fontSize": 11}
    return [
        rule.mark_rule(color=GREY, strokeDash=[4, 4]).encode(x),
        rule.mark_text(**text).encode(x, y=alt.value(-7), text=alt.value(name)),
    ]


def _signs(known: pd.DataFrame) -> dict[str, str]:
    """Names with a sign for those whose verdict is not a good one."""
    signs = {UNCLEAR: "? ", EMPTIED: "! ", NO_BETTER: "\N{MULTIPLICATION SIGN} "}
    return {
        row.scorer: signs.get(row.mark, "") + row.scorer
        for row in known.itertuples()
        if not row.control
    }


def _tooltip(unit: Unit) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("scorer:N"),
        alt.Tooltip("mark:N", title="point"),
        alt.Tooltip("seed:Q"),
        alt.Tooltip("value:Q", title=unit.title("value"), format=unit.value),
        alt.Tooltip("low:Q", title="95 % from", format=unit.value),
        alt.Tooltip("high:Q", title="95 % to", format=unit.value),
        alt.Tooltip("status:N"),
    ]
