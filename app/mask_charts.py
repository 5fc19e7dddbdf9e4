"""Masks drawn: a kept weight is a filled square, a pruned one a dot, so no colour is needed."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from app.mask_view import Agreement, Matrix, Pooled, column_name
from app.theme import DIVERGING, GREY, PALETTE, SEQUENTIAL, AnyChart

KEPT = PALETTE[0]
_GRADIENT = alt.Legend(orient="top", gradientLength=180)
PARTS = {  # what two recipes make of a weight -> colour, shape
    "both": (PALETTE[0], "square"),
    "only A": (PALETTE[1], "triangle-up"),
    "only B": (PALETTE[3], "triangle-down"),
}
_PLACE: list[Any] = [alt.Tooltip("top:Q", title="output"), alt.Tooltip("column:N", title="reads")]


def shares(pooled: Pooled, shape: Sequence[int], title: str = "kept (%)") -> AnyChart:
    """A whole layer in cells coloured by a share; clicking one is the selection `cell`."""
    rows, cols = np.indices(pooled.shares.shape).reshape(2, -1)
    width = int(np.prod(shape[1:]))
    frame = pd.DataFrame({"top": rows * pooled.rows, "left": cols * pooled.cols})
    frame["bottom"] = np.minimum(frame["top"] + pooled.rows, shape[0])
    frame["right"] = np.minimum(frame["left"] + pooled.cols, width)
    frame["column"] = [column_name(c, shape) for c in frame["left"]]
    frame["share"] = 100 * pooled.shares.reshape(-1)
    places = list(_PLACE)
    if pooled.rows * pooled.cols > 1:
        places = [
            alt.Tooltip("top:Q", title="first output"),
            alt.Tooltip("column:N", title="first reads"),
        ]
    return (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            **_rectangle((0, shape[0]), (0, width), shape),
            color=alt.Color(
                "share:Q",
                title=title,
                legend=_GRADIENT,
                scale=alt.Scale(scheme={"name": SEQUENTIAL}, domain=[0, 100]),
            ),
            tooltip=[alt.Tooltip("share:Q", title=title, format=".1f"), *places],
        )
        .add_params(alt.selection_point(name="cell", fields=["top", "left"]))
        .properties(height=_height(pooled.shares.shape[0]))
    )


def weights(
    mask: Matrix,
    values: Matrix,
    rows: slice,
    cols: slice,
    shape: Sequence[int],
    *,
    unit: tuple[int, int] = (1, 1),
    by_value: bool = False,
) -> AnyChart:
    """The single weights of a window; `unit` draws the borders of groups or blocks."""
    frame = _window(rows, cols, shape)
    frame["weight"] = values[rows, cols].reshape(-1)
    frame["kept"] = mask[rows, cols].reshape(-1)
    frame["mask"] = np.where(frame["kept"], "kept", "pruned")
    largest = float(np.abs(values).max()) or 1.0
    scale = alt.Scale(scheme={"name": DIVERGING}, domain=[-largest, largest], domainMid=0)
    tooltip = [
        alt.Tooltip("mask:N"),
        alt.Tooltip("weight:Q", title="weight before pruning", format=".4g"),
        *_PLACE,
    ]
    kept = (
        alt.Chart(frame[frame["kept"]])
        .mark_rect(stroke=GREY, strokeWidth=0.3)
        .encode(
            **_rectangle((rows.start, rows.stop), (cols.start, cols.stop), shape),
            color=alt.Color("weight:Q", title="weight", scale=scale, legend=_GRADIENT)
            if by_value
            else alt.value(KEPT),
            tooltip=tooltip,
        )
    )
    pruned = (
        alt.Chart(frame[~frame["kept"]])
        .mark_point(size=5, filled=True, color=GREY, opacity=0.7)
        .encode(**_centre(rows, cols, shape), tooltip=tooltip)
    )
    return alt.layer(*_bands(rows, cols, unit, shape), kept, pruned).properties(
        height=_height(rows.stop - rows.start)
    )


def overlap(a: Matrix, b: Matrix, rows: slice, cols: slice, shape: Sequence[int]) -> AnyChart:
    """The single weights of a window in two recipes: kept by both, by one, or (blank) by none."""
    frame = _window(rows, cols, shape)
    in_a, in_b = a[rows, cols].reshape(-1), b[rows, cols].reshape(-1)
    frame["kept by"] = np.select([in_a & in_b, in_a, in_b], list(PARTS), "none")
    size = max(8.0, min(110.0, 90_000 / max(1, len(frame))))
    return (
        alt.Chart(frame[frame["kept by"] != "none"])
        .mark_point(filled=True, size=size, opacity=1)
        .encode(
            **_centre(rows, cols, shape),
            color=_part_colours("kept by"),
            shape=alt.Shape(
                "kept by:N",
                legend=alt.Legend(orient="top"),
                scale=alt.Scale(domain=list(PARTS), range=[shape for _, shape in PARTS.values()]),
            ),
            tooltip=[alt.Tooltip("kept by:N"), *_PLACE],
        )
        .properties(height=_height(rows.stop - rows.start))
    )


def overlap_by_layer(found: Mapping[str, Agreement]) -> AnyChart:
    """For each layer the weights that either recipe keeps, shared out; every part is lettered."""
    frame = pd.DataFrame(
        {"layer": layer, "part": part, "weights": count, "order": order, "share": share}
        for layer, agreement in found.items()
        for order, (part, count) in enumerate(
            zip(PARTS, (agreement.both, agreement.only_a, agreement.only_b), strict=True)
        )
        for share in [100 * count / max(1, agreement.both + agreement.only_a + agreement.only_b)]
    )
    base = alt.Chart(frame).encode(
        y=alt.Y("layer:N", sort=list(found), title=None, axis=alt.Axis(labelLimit=160)),
        x=alt.X(
            "share:Q",
            stack="zero",
            scale=alt.Scale(domain=[0, 100]),
            title="share of kept by any (%)",
        ),
        order=alt.Order("order:Q"),
        tooltip=["layer:N", "part:N", "weights:Q", alt.Tooltip("share:Q", format=".1f")],
    )
    bars = base.mark_bar(stroke="white", strokeWidth=1).encode(color=_part_colours("part"))
    text = (
        base.mark_text(fontSize=11)
        .transform_filter("datum.share > 12")
        .transform_calculate(label="datum.part + ' ' + format(datum.share, '.0f') + ' %'")
        .encode(
            x=alt.X("share:Q", stack="zero", bandPosition=0.5),
            text="label:N",
            color=alt.condition("datum.part == 'both'", alt.value("white"), alt.value("black")),
        )
    )
    return alt.layer(bars, text).properties(height=alt.Step(26))


def along(sparsities: np.ndarray, what: str) -> AnyChart:
    """The sparsity of each row or column, as steps; 100 % = dead."""
    frame = pd.DataFrame({what: np.arange(len(sparsities)), "sparsity": 100 * sparsities})
    return (
        alt.Chart(frame)
        .mark_area(interpolate="step-after", line={"color": KEPT}, color=KEPT, opacity=0.35)
        .encode(
            x=alt.X(
                f"{what}:Q", axis=alt.Axis(format="d", tickMinStep=1), scale=alt.Scale(nice=False)
            ),
            y=alt.Y("sparsity:Q", title="sparsity (%)", scale=alt.Scale(domain=[0, 100])),
            tooltip=[f"{what}:Q", alt.Tooltip("sparsity:Q", title="sparsity (%)", format=".1f")],
        )
        .properties(height=180)
    )


def _window(rows: slice, cols: slice, shape: Sequence[int]) -> pd.DataFrame:
    top, left = np.mgrid[rows, cols].reshape(2, -1)
    names = {c: column_name(c, shape) for c in range(cols.start, cols.stop)}
    frame = pd.DataFrame({"top": top, "left": left, "bottom": top + 1, "right": left + 1})
    frame["column"] = frame["left"].map(names)
    frame["x"], frame["y"] = frame["left"] + 0.5, frame["top"] + 0.5
    return frame


def _axes(
    rows: tuple[int, int], cols: tuple[int, int], shape: Sequence[int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the x and of the y channel of a matrix picture, first row on top."""
    columns = "input" if len(shape) == 2 else "kernel position x input"
    axis = alt.Axis(format="d", tickMinStep=1, grid=False)
    return (
        {"title": columns, "axis": axis, "scale": alt.Scale(domain=list(cols), nice=False)},
        {"title": "output", "axis": axis, "scale": alt.Scale(domain=list(rows)[::-1], nice=False)},
    )


def _rectangle(
    rows: tuple[int, int], cols: tuple[int, int], shape: Sequence[int]
) -> dict[str, Any]:
    x, y = _axes(rows, cols, shape)
    return {"x": alt.X("left:Q", **x), "x2": "right", "y": alt.Y("top:Q", **y), "y2": "bottom"}


def _centre(rows: slice, cols: slice, shape: Sequence[int]) -> dict[str, Any]:
    x, y = _axes((rows.start, rows.stop), (cols.start, cols.stop), shape)
    return {"x": alt.X("x:Q", **x), "y": alt.Y("y:Q", **y)}


def _bands(rows: slice, cols: slice, unit: tuple[int, int], shape: Sequence[int]) -> list[AnyChart]:
    """Every other group, block or kernel position on a tinted ground, and lines between them."""
    x, y = _axes((rows.start, rows.stop), (cols.start, cols.stop), shape)
    height, width = unit
    if unit == (1, 1) and len(shape) > 2:
        width = shape[1]
    layers: list[AnyChart] = []
    if width > 1:
        starts = np.arange(cols.start // width, -(-cols.stop // width)) * width
        bands = pd.DataFrame({"from": starts.clip(cols.start), "odd": starts // width % 2 == 1})
        bands["to"] = (starts + width).clip(max=cols.stop)
        ground = alt.Chart(bands[bands["odd"]]).mark_rect(color=GREY, opacity=0.2)
        layers.append(ground.encode(alt.X("from:Q", **x), alt.X2("to:Q")))
        lines = alt.Chart(bands).mark_rule(color=GREY, strokeWidth=1.5)
        layers.append(lines.encode(alt.X("from:Q", **x)))
    if height > 1:
        starts = np.arange(rows.start, rows.stop + 1)
        lines = alt.Chart(pd.DataFrame({"at": starts[starts % height == 0]}))
        layers.append(lines.mark_rule(color=GREY, strokeWidth=1.5).encode(alt.Y("at:Q", **y)))
    return layers


def _part_colours(field: str) -> alt.Color:
    return alt.Color(
        f"{field}:N",
        title="kept by",
        legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=list(PARTS), range=[colour for colour, _ in PARTS.values()]),
    )


def _height(rows: int) -> int:
    """Pixels: squares large enough to tell apart, few enough for one screen."""
    return max(160, min(600, 12 * rows + 100))
