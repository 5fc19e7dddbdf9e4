"""Moving masks against steps and against what they cost: rules over each other."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import altair as alt
import pandas as pd

from app.theme import GREY, AnyChart, colours, dashes, shapes
from sparsity_core.dynamic.row import MovingResult

_HEIGHT = 360  # pixels, without the legend
_SETTLED = 0.15  # share of the training before which accuracies are not what a chart is for


def frame_of(rows: Sequence[MovingResult]) -> pd.DataFrame:
    """Rows as a table for charts, shares in per cent, one `series` a rule and sparsity."""
    table = pd.DataFrame([asdict(row) for row in rows])
    if table.empty:
        return table
    shares = ("value", "validation_value", "achieved_sparsity", "training_cost", "inference_cost")
    for column in (*shares, "explored", "sparsity"):
        table[column] = 100 * pd.to_numeric(table[column])
    several = table.loc[table["rule"] == "static", "sparsity"].nunique() > 1
    table["series"] = [
        _name(rule, matched, asked, several)
        for rule, matched, asked in zip(
            table["rule"], table["matched"], table["sparsity"], strict=True
        )
    ]
    return table


def _name(rule: str, matched: str, asked: float, several: bool) -> str:
    short = rule.partition("(")[0]
    if matched:
        return f"{short} at the counts of {matched.partition('(')[0]}"
    return f"{short}, {asked:.4g} %" if several and asked == asked and short != "dense" else short


def means(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row a series and step: the mean over seeds, lowest, highest, how many."""
    sound = table[table[column].notna()]
    groups = sound.groupby(["series", "step"], sort=False)
    found = groups[[column]].mean()
    found["low"], found["high"] = groups[column].min(), groups[column].max()
    found["seeds"] = groups["seed"].nunique()
    return found.reset_index()


def by_step(
    table: pd.DataFrame, column: str, title: str, *, from_start: bool, log: bool = False
) -> AnyChart:
    """A column against the step, a line a series; bands from the lowest to the highest seed."""
    shown = means(table, column)
    names = list(dict.fromkeys(shown["series"]))
    settled = shown[shown["step"] >= _SETTLED * shown["step"].max()]
    # Room beyond: a point that lies on an edge would be cut in half.
    ends = [shown["low"].min() / 1.15, 1.15 * shown["high"].max()]
    scale = alt.Scale(type="log", nice=False, domain=ends) if log else alt.Scale(zero=False)
    if not from_start and len(settled):
        low, high = settled["low"].min(), settled["high"].max()
        margin = max(0.05 * (high - low), 0.1)
        scale = alt.Scale(domain=[low - margin, high + margin], nice=False, zero=False)
    colour, shape, dash = _told_apart(names)
    x = alt.X("step:Q", title="step of training", scale=alt.Scale(nice=False, padding=5))
    tooltip = [
        alt.Tooltip("series:N", title="rule"),
        "step:Q",
        alt.Tooltip(f"{column}:Q", title="mean", format=".2f"),
        alt.Tooltip("low:Q", title="lowest seed", format=".2f"),
        alt.Tooltip("high:Q", title="highest seed", format=".2f"),
        "seeds:Q",
    ]
    base = alt.Chart(shown).encode(x, colour)
    y = alt.Y(f"{column}:Q", title=title, scale=scale)
    layers = [
        base.mark_area(opacity=0.13, clip=True).encode(
            alt.Y("low:Q", scale=scale, title=title), alt.Y2("high:Q")
        ),
        base.mark_line(strokeWidth=2, clip=True).encode(y, dash),
        base.mark_point(filled=True, size=36, opacity=1, clip=True).encode(
            y, shape, tooltip=tooltip
        ),
    ]
    return alt.layer(*layers).properties(height=_HEIGHT + 22 * -(-len(names) // 3))


def against_cost(table: pd.DataFrame, metric: str, samples: int, split: str) -> AnyChart:
    """What comes out at the end against the multiply-adds that training took."""
    last = table[table["value"].notna()]
    groups = last.groupby("series", sort=False)
    columns = ["value", "training_cost", "inference_cost", "achieved_sparsity"]
    shown = groups[columns].mean()
    shown["low"], shown["high"] = groups["value"].min(), groups["value"].max()
    shown["seeds"] = groups["seed"].nunique()
    shown = shown.reset_index()
    names = list(dict.fromkeys(table["series"]))
    colour, shape, _ = _told_apart(names)
    x = alt.X(
        "training_cost:Q",
        title="multiply-adds of training (% of dense, log axis)",
        scale=alt.Scale(type="log", nice=False, padding=24),
        axis=alt.Axis(values=[0.5, 1, 2, 5, 10, 20, 50, 100], format="~g"),
    )
    scale = alt.Scale(zero=False, padding=12)
    tooltip = [
        alt.Tooltip("series:N", title="rule"),
        alt.Tooltip("value:Q", title=f"{metric} (%)", format=".2f"),
        alt.Tooltip("training_cost:Q", title="training (% of dense)", format=".2f"),
        alt.Tooltip("inference_cost:Q", title="inference (% of dense)", format=".2f"),
        alt.Tooltip("achieved_sparsity:Q", title="sparsity (%)", format=".2f"),
        "seeds:Q",
    ]
    base = alt.Chart(shown).encode(x, colour)
    title = f"{metric} (%, {samples:,} {split} samples)"
    return alt.layer(
        base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
            alt.Y("low:Q", scale=scale, title=title), alt.Y2("high:Q")
        ),
        base.mark_point(filled=True, size=110, opacity=1).encode(
            alt.Y("value:Q", title=title, scale=scale), shape, tooltip=tooltip
        ),
    ).properties(height=_HEIGHT + 22 * -(-len(names) // 3))


def layer_drift(rows: Sequence[MovingResult], sizes: dict[str, int]) -> pd.DataFrame:
    """The sparsity of each layer at each look of one training, in per cent."""
    found = [
        {"step": row.step, "layer": name, "sparsity": 100 * (1 - count / sizes[name])}
        for row in rows
        if row.layers
        for name, count in json.loads(row.layers).items()
    ]
    return pd.DataFrame(found, columns=["step", "layer", "sparsity"])


def drift_chart(drift: pd.DataFrame) -> AnyChart:
    """A line a layer."""
    names = list(dict.fromkeys(drift["layer"]))
    scale: dict[str, Any] = {"domain": names}
    legend = alt.Legend(
        title=None, orient="bottom", columns=3, labelLimit=220, symbolOpacity=1, symbolStrokeWidth=0
    )
    base = alt.Chart(drift).encode(
        alt.X("step:Q", title="step of training"),
        alt.Y("sparsity:Q", title="sparsity of the layer (%)", scale=alt.Scale(zero=False)),
        alt.Color(
            "layer:N",
            sort=names,
            legend=legend,
            scale=alt.Scale(range=colours(len(names)), **scale),
        ),
        tooltip=["layer:N", "step:Q", alt.Tooltip("sparsity:Q", format=".2f")],
    )
    shape = alt.Shape(
        "layer:N", sort=names, legend=legend, scale=alt.Scale(range=shapes(len(names)), **scale)
    )
    return alt.layer(
        base.mark_line(strokeWidth=2),
        base.mark_point(filled=True, size=40, opacity=1).encode(shape),
    ).properties(height=_HEIGHT)


def _told_apart(names: Sequence[str]) -> tuple[alt.Color, alt.Shape, alt.StrokeDash]:
    legend = alt.Legend(
        title=None, orient="bottom", columns=3, labelLimit=220, symbolOpacity=1, symbolSize=80,
        symbolStrokeWidth=0,  # the dashes of lines would fray the shapes
    )  # fmt: skip
    domain: dict[str, Any] = {"domain": list(names)}
    count = len(names)
    # Grey is dense everywhere, and leaves six rules a colour each.
    rules = [name for name in names if name != "dense"]
    colour = dict(zip(rules, colours(len(rules)), strict=True)) | {"dense": GREY}
    return (
        alt.Color(
            "series:N", sort=list(names), legend=legend,
            scale=alt.Scale(range=[colour[name] for name in names], **domain),
        ),
        alt.Shape(
            "series:N", sort=list(names), legend=legend,
            scale=alt.Scale(range=shapes(count), **domain),
        ),
        alt.StrokeDash(
            "series:N", sort=list(names), legend=None,
            scale=alt.Scale(range=dashes(count), **domain),
        ),
    )  # fmt: skip
