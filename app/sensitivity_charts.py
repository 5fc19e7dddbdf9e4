"""Sweeps drawn: all layers at a sparsity, one layer by all scorers, layers by sparsities."""

import math
from typing import Any, Literal

import altair as alt
import pandas as pd

from app.sensitivity_table import SOUND, averaged
from app.theme import GREY, HIGHLIGHT, AnyChart, colours, dashes, shapes
from sparsity_core.units import PER_CENT, RAW, Unit, unit_of

_SHORT = "replace(datum.label, /[.]weight$/, '')"  # every layer is a weight: no need to say it
_INWARDS = alt.expr("datum.sparsity > 50 ? 'right' : 'left'")  # words stay inside the chart
_COLUMNS = 2  # of the legend: as many as a narrow screen can show
_LEAST_LIMIT = {PER_CENT: 5.0, RAW: 1e-9}  # of the heatmap: small drops stay dark
_WORDED = 7  # levels up to which a cell of the heatmap is wide enough for a word


def all_layers(table: pd.DataFrame, selected: str, metric: str) -> AnyChart:
    """One line a layer for one scorer and structure; clicking a line is the selection `layer`."""
    measured = averaged(table, ["layer"])
    measured["width"] = measured["layer"].eq(selected).map({True: 3.5, False: 1.5})
    layers = list(dict.fromkeys(table["layer"]))
    click = alt.selection_point(name="layer", fields=["layer"], on="click")
    colour = alt.Color(
        "layer:N",
        sort=layers,
        scale=alt.Scale(domain=layers, range=colours(len(layers))),
        legend=alt.Legend(
            title="layer", orient="bottom", columns=_COLUMNS, symbolLimit=60, labelExpr=_SHORT
        ),
    )
    base = alt.Chart(measured).encode(_x(), _y(metric, measured))
    lines = base.mark_line().encode(
        colour,
        strokeWidth=alt.StrokeWidth("width:Q", scale=None, legend=None),
        opacity=alt.condition(alt.datum.layer == selected, alt.value(1), alt.value(0.55)),
    )
    points = (
        base.mark_point(filled=True, size=70)
        .encode(
            colour,
            shape=alt.Shape(
                "layer:N",
                sort=layers,
                scale=alt.Scale(domain=layers, range=shapes(len(layers))),
                legend=None,
            ),
            opacity=alt.condition(alt.datum.layer == selected, alt.value(1), alt.value(0.55)),
            tooltip=_tooltip("layer", unit_of(metric)),
        )
        .add_params(click)
    )
    band = (
        alt.Chart(measured[measured["layer"] == selected])
        .mark_area(opacity=0.18, color=GREY)
        .encode(_x(), alt.Y("low:Q"), alt.Y2("high:Q"))
    )
    height = 390 + 30 * math.ceil(len(layers) / _COLUMNS)
    odd = _odd(measured[measured["layer"] == selected])
    return alt.layer(band, _dense(measured, unit_of(metric)), lines, points, odd).properties(
        height=height
    )


def one_layer(table: pd.DataFrame, metric: str) -> AnyChart:
    """One layer by every scorer (colour and shape) and structure (dash), with bands."""
    measured = averaged(table, ["way", "scorer", "structure"])
    scorers = list(dict.fromkeys(table["scorer"]))
    structures = list(dict.fromkeys(table["structure"]))
    several = len(structures) > 1
    # Two legends stand side by side: each goes downwards then, or a narrow screen cuts them.
    across: Literal["horizontal", "vertical"] = "vertical" if several else "horizontal"
    legend = alt.Legend(orient="bottom", direction=across, symbolSize=90, symbolOpacity=1)
    colour = alt.Color(
        "scorer:N",
        sort=scorers,
        scale=alt.Scale(domain=scorers, range=colours(len(scorers))),
        legend=legend,
    )
    shape = alt.Shape(
        "scorer:N",
        sort=scorers,
        scale=alt.Scale(domain=scorers, range=shapes(len(scorers))),
        legend=legend,
    )
    dash = alt.StrokeDash(
        "structure:N",
        sort=structures,
        scale=alt.Scale(domain=structures, range=dashes(len(structures))),
        legend=alt.Legend(orient="bottom", direction=across, symbolSize=400) if several else None,
    )
    base = alt.Chart(measured).encode(_x(), _y(metric, measured), colour, alt.Detail("way:N"))
    band = base.mark_area(opacity=0.12).encode(alt.Y("low:Q"), alt.Y2("high:Q"))
    lines = base.mark_line(strokeWidth=2).encode(dash)
    points = base.mark_point(filled=True, size=80).encode(
        shape, tooltip=_tooltip("way", unit_of(metric))
    )
    dense = _dense(measured, unit_of(metric))
    return alt.layer(band, dense, lines, points, _odd(measured)).properties(height=440)


def heatmap(table: pd.DataFrame, selected: str, unit: Unit = PER_CENT) -> AnyChart:
    """Drop by layer and sparsity; clicking a cell is the selection `cell`."""
    cells = averaged(table, ["layer"], keep_unmeasured=True)
    layers = list(dict.fromkeys(table["layer"]))
    worded = cells["sparsity"].nunique() <= _WORDED
    cells["text"] = [_word(row, unit) if worded else _sign(row) for row in cells.itertuples()]
    cells["level"] = cells["sparsity"].map("{:g} %".format)
    levels = list(cells.sort_values("sparsity")["level"].unique())
    most = float(cells["drop"].max()) if cells["drop"].notna().any() else 0.0
    limit = max(_LEAST_LIMIT[unit], most)
    # Cividis is dark at its low end: white ink there, black at the bright end, grey on no colour.
    cells["ink"] = ["black" if drop > 0.55 * limit else "white" for drop in cells["drop"]]
    cells.loc[cells["drop"].isna(), "ink"] = GREY
    x = alt.X(
        "level:O", sort=levels, title="sparsity asked of the layer", axis=alt.Axis(labelAngle=0)
    )
    y = alt.Y("layer:N", sort=layers, title=None, axis=alt.Axis(labelExpr=_SHORT, labelLimit=140))
    base = alt.Chart(cells).encode(x, y)
    boxes = (
        base.mark_rect(stroke=GREY, strokeWidth=0.5)
        .encode(
            color=alt.condition(
                "isValid(datum.drop)",
                alt.Color(
                    "drop:Q",
                    title=unit.drop,
                    scale=alt.Scale(scheme="cividis", domain=[0, limit], clamp=True),
                    legend=alt.Legend(orient="bottom", gradientLength=160),
                ),
                alt.value("transparent"),
            ),
            tooltip=_tooltip("layer", unit),
        )
        .add_params(alt.selection_point(name="cell", fields=["layer"], on="click"))
    )
    words = base.mark_text(fontSize=11).encode(
        text=alt.Text("text:N"), color=alt.Color("ink:N", scale=None)
    )
    ring = (
        alt.Chart(cells[cells["layer"] == selected])
        .mark_rect(filled=False, stroke=HIGHLIGHT, strokeWidth=2.5)
        .encode(x, y)
    )
    # The words' ink is given, not scaled, so it must not share the colour scale of the boxes.
    drawn = alt.layer(boxes, words, ring).resolve_scale(color="independent")
    return drawn.properties(height=190 + 36 * len(layers))


def _word(cell: Any, unit: Unit) -> str:
    """What a cell says when it has the room: the drop, or why that number is none to go by."""
    if pd.isna(cell.drop):
        return str(cell.status)
    if cell.answer:
        return str(cell.answer)
    if cell.mark not in SOUND:
        return {"changed nothing": "no-op", "layer emptied": "emptied"}.get(cell.mark, cell.mark)
    if unit is PER_CENT:
        return f"{cell.drop:+.1f}".replace("-0.0", "+0.0")
    return f"{cell.drop:+.2g}"


def _sign(cell: Any) -> str:
    if pd.isna(cell.drop):
        return "×"
    return str(cell.answer)[:1] if cell.answer else "" if cell.mark in SOUND else "!"


def _odd(table: pd.DataFrame) -> AnyChart:
    """Words beside the points whose number is not to be taken for robustness or for a loss."""
    return (
        alt.Chart(table[~table["mark"].isin(SOUND)])
        .mark_text(dy=-12, color=GREY, fontSize=11, align=_INWARDS)
        .encode(_x(), alt.Y("value:Q"), alt.Text("mark:N"))
    )


def _x() -> alt.X:
    return alt.X(
        "sparsity:Q",
        title="sparsity asked of the layer (%)",
        scale=alt.Scale(domain=[0, 100]),
        axis=alt.Axis(values=list(range(0, 101, 20))),
    )


def _y(metric: str, table: pd.DataFrame) -> alt.Y:
    samples = _range(table["samples"]) if len(table) else "0"
    split = table["split"].iloc[0] if len(table) else ""
    return alt.Y(
        "value:Q",
        title=unit_of(metric).title(metric, f"{samples} {split} samples"),
        scale=alt.Scale(zero=False, nice=True),
    )


def _range(numbers: "pd.Series[float]") -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def _dense(table: pd.DataFrame, unit: Unit) -> AnyChart:
    """The dense model as a dashed rule with its name on it."""
    first = table.head(1)
    value = first["dense_value"].iloc[0] if len(first) else 0.0
    shown = f"{value:.1f} %" if unit is PER_CENT else f"{value:.4g}"
    rule = alt.Chart(first).mark_rule(color=GREY, strokeDash=[4, 4]).encode(alt.Y("dense_value:Q"))
    name = (
        alt.Chart(first)
        .mark_text(align="right", dx=-4, dy=-7, color=GREY, fontSize=11)
        .encode(
            alt.Y("dense_value:Q"),
            x=alt.value("width"),
            text=alt.value(f"dense {shown}" if len(first) else ""),
        )
    )
    return alt.layer(rule, name)


def _tooltip(first: str, unit: Unit) -> list[alt.Tooltip]:
    return [
        alt.Tooltip(f"{first}:N"),
        alt.Tooltip("sparsity:Q", title="asked (%)", format=".1f"),
        alt.Tooltip("achieved_sparsity:Q", title="achieved (%)", format=".1f"),
        alt.Tooltip("value:Q", title=unit.title("value"), format=unit.value),
        alt.Tooltip("drop:Q", title=unit.drop, format=unit.signed),
        alt.Tooltip("low:Q", title="interval from", format=unit.value),
        alt.Tooltip("high:Q", title="interval to", format=unit.value),
        alt.Tooltip("samples:Q"),
        alt.Tooltip("mark:N", title="point"),
        alt.Tooltip("status:N"),
        alt.Tooltip("message:N"),
    ]
