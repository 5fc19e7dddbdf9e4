"""Whole-model curves drawn: accuracy against what was removed, several recipes over each other."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import altair as alt
import pandas as pd

from app.curve_names import names, stages
from app.theme import GREY, AnyChart, colours, shapes
from sparsity_core.curve import CurvePlan
from sparsity_core.curve_row import CurveResult
from sparsity_core.units import PER_CENT, Unit, around_dense, in_units, unit_of

_SHARE = alt.Scale(domain=[0, 100])
_LOG = alt.Scale(type="log", nice=False, domainMin=1, padding=12)
_LEFT = alt.Scale(domain=[100, 0])  # as on the other axes, more is pruned further right
# How the horizontal axis is named -> column, title, scale.
AXES: dict[str, tuple[str, str, Any]] = {
    "Sparsity": ("achieved_sparsity", "sparsity achieved, all prunable weights (%)", _SHARE),
    "Compression": ("compression", "compression: parameters / non-zeros (x, log axis)", _LOG),
    "Multiply-adds": ("mac_share", "multiply-adds by non-zero weights (%, a count)", _LEFT),
}
_DASHES = [[4, 3], [1, 0], [8, 3, 2, 3], [10, 4], [2, 2]]  # as pruned, then fine-tuned
_SHARES = ["sparsity", "achieved_sparsity", "mac_share"]
_MEASURED = ["value", "dense_value", "drop", "drop_low", "drop_high"]
_HEIGHT = 460  # pixels, without the legend, which Streamlit fits into the height


def frame_of(rows: Sequence[CurveResult], plan: CurvePlan) -> pd.DataFrame:
    """Rows as a table for charts: per cent and points, and the name of each curve.

    Numbers of a metric that is no share stay as they are.
    """
    table = pd.DataFrame([asdict(row) for row in rows])
    if table.empty:
        return table
    for column in _SHARES:
        table[column] = 100 * pd.to_numeric(table[column])
    for column in _MEASURED:
        table[column] = in_units(rows).scale * pd.to_numeric(table[column])
    table["compression"] = pd.to_numeric(table["compression"])
    curve, stage = names(plan), stages(plan)
    by_digest = {r.at(share).digest: r for r, share in product(plan.recipes, plan.sparsities)}
    table["curve"] = [curve[by_digest[digest]] for digest in table["recipe"]]
    table["stage"] = [stage[by_digest[digest]] for digest in table["recipe"]]
    table[["low", "high"]] = around_dense(table)
    return table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row a curve and requested sparsity: mean, spread and number of seeds; sound points only.

    With one seed `low` and `high` are the paired 95 % interval over samples; with several they are
    the lowest and highest seed.
    """
    sound = table[table["status"] == "ok"]
    if sound.empty:
        return sound.assign(deviation=[], seeds=[])
    groups = sound.groupby(["curve", "stage", "sparsity"], sort=False)
    columns = ["achieved_sparsity", "compression", "mac_share", "value", "dense_value", "drop"]
    found = groups[columns].mean()
    found["deviation"] = groups["value"].std()
    found["seeds"] = groups["seed"].nunique()
    several = found["seeds"] > 1
    found["low"] = groups["value"].min().where(several, groups["low"].min())
    found["high"] = groups["value"].max().where(several, groups["high"].max())
    found[["samples", "split"]] = groups[["samples", "split"]].first()
    return found.reset_index()


def curves(table: pd.DataFrame, axis: str, plan: CurvePlan, shown: list[str]) -> AnyChart:
    """Recipes over one of AXES: means joined by lines, spread as bars, seeds as small points.

    Points without a sound number are crosses: on the bottom edge where there is none at all.
    `shown`: which of the plan's names.
    """
    column, title, scale = AXES[axis]
    unit = unit_of(plan.setting.metric)
    table = table[table["curve"].isin(shown)]
    means = summary(table)
    recipes = [name for name in dict.fromkeys(names(plan).values()) if name in shown]
    ways = list(dict.fromkeys(stages(plan).values()))
    x = alt.X(f"{column}:Q", title=title, scale=scale)
    y = alt.Y("value:Q", title=_title(plan), scale=alt.Scale(zero=False))
    columns = 1 if max(map(len, recipes), default=0) > 18 else 2  # 420 pixels must hold them
    legend = alt.Legend(
        title="recipe", orient="bottom", columns=columns, labelLimit=360, symbolOpacity=1
    )
    colour = alt.Color(
        "curve:N", sort=recipes, legend=legend,
        scale=alt.Scale(domain=recipes, range=colours(len(recipes))),
    )  # fmt: skip
    shape = alt.Shape(
        "curve:N", sort=recipes, legend=legend,
        scale=alt.Scale(domain=recipes, range=shapes(len(recipes))),
    )  # fmt: skip
    dash = alt.StrokeDash(
        "stage:N", sort=ways,
        scale=alt.Scale(domain=ways, range=_DASHES[: len(ways)] if len(ways) > 1 else [[1, 0]]),
        # Not beside the recipes: 420 pixels do not hold both.
        legend=alt.Legend(title=None, orient="top", direction="vertical", labelLimit=300)
        if len(ways) > 1
        else None,
    )  # fmt: skip
    base = alt.Chart(means).encode(x, y, colour)
    lines = base.mark_line(strokeWidth=2).encode(dash, detail="stage:N")
    spread = base.mark_rule(strokeWidth=1.5, opacity=0.7).encode(
        alt.Y("low:Q", scale=alt.Scale(zero=False)), alt.Y2("high:Q")
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        shape, tooltip=_mean_tooltip(unit)
    )
    layers = [*_dense(table, unit), lines, spread, points]
    if table["seed"].nunique() > 1:
        sound = table[table["status"] == "ok"]
        seeds = alt.Chart(sound).mark_point(size=25, opacity=0.6).encode(x, y, colour, shape)
        layers.append(seeds.encode(tooltip=_tooltip(unit)))
    return alt.layer(*layers, *_unsound(table, axis, x, y, colour, unit)).properties(
        height=_HEIGHT + 22 * math.ceil(len(recipes) / columns)
    )


def _unsound(
    table: pd.DataFrame, axis: str, x: alt.X, y: alt.Y, colour: alt.Color, unit: Unit
) -> list[AnyChart]:
    """Crosses with the reason: collapsed ones at their number, the others on the bottom edge."""
    column = AXES[axis][0]
    cross: dict[str, Any] = {"text": "×", "fontSize": 20, "fontWeight": "bold"}
    layers: list[AnyChart] = []
    collapsed = table[(table["status"] != "ok") & table["value"].notna()]
    if len(collapsed):
        layers.append(
            alt.Chart(collapsed).mark_text(**cross).encode(x, y, colour, tooltip=_tooltip(unit))
        )
    absent = table[table["value"].isna()].copy()
    asked = absent["sparsity"] / 100
    absent[column] = {
        "Sparsity": 100 * asked,
        "Compression": 1 / (1 - asked.clip(upper=0.999)),
        "Multiply-adds": 100 * (1 - asked),
    }[axis]
    for place, (_, own) in enumerate(absent.groupby("curve", sort=False)):
        height = alt.value(alt.expr(f"height - {8 + 14 * place}"))  # one line a recipe
        layers.append(
            alt.Chart(own).mark_text(**cross).encode(x, colour, y=height, tooltip=_tooltip(unit))
        )
    return layers


def _dense(table: pd.DataFrame, unit: Unit) -> list[AnyChart]:
    """The dense model as a dashed line with its name and number."""
    known = table[table["dense_value"].notna()].head(1)
    if known.empty:
        return []
    at = alt.Y("dense_value:Q", scale=alt.Scale(zero=False))
    value = known["dense_value"].iloc[0]
    name = alt.value(f"dense {value:.1f} %" if unit is PER_CENT else f"dense {value:.4g}")
    return [
        alt.Chart(known).mark_rule(color=GREY, strokeDash=[2, 3], strokeWidth=1.5).encode(at),
        alt.Chart(known)
        .mark_text(align="left", dx=4, dy=-7, color=GREY, fontSize=11)
        .encode(at, x=alt.value(0), text=name),
    ]


def _title(plan: CurvePlan) -> str:
    setting = plan.setting
    said = f"{setting.samples:,} {setting.split} samples"
    return unit_of(setting.metric).title(setting.metric, said)


def _shared_tooltip(unit: Unit) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("curve:N"),
        alt.Tooltip("stage:N"),
        alt.Tooltip("sparsity:Q", title="asked (%)", format=".1f"),
        alt.Tooltip("achieved_sparsity:Q", title="achieved (%)", format=".1f"),
        alt.Tooltip("compression:Q", title="compression (x)", format=".2f"),
        alt.Tooltip("mac_share:Q", title="multiply-adds left (%)", format=".1f"),
        alt.Tooltip("value:Q", title=unit.title("value"), format=unit.value),
        alt.Tooltip("drop:Q", title=unit.drop, format=unit.signed),
    ]


def _mean_tooltip(unit: Unit) -> list[alt.Tooltip]:
    return [
        *_shared_tooltip(unit),
        alt.Tooltip("low:Q", title="bar from", format=unit.value),
        alt.Tooltip("high:Q", title="bar to", format=unit.value),
        alt.Tooltip("seeds:Q"),
    ]


def _tooltip(unit: Unit) -> list[alt.Tooltip]:
    return [
        *_shared_tooltip(unit),
        alt.Tooltip("drop_low:Q", title="95 % from", format=unit.signed),
        alt.Tooltip("drop_high:Q", title="95 % to", format=unit.signed),
        alt.Tooltip("seed:Q"),
        alt.Tooltip("status:N"),
        alt.Tooltip("message:N"),
    ]
