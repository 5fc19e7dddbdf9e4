"""Masks drawn: a kept weight is a filled square, a pruned one a dot, so no colour is needed."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from app.mask_view import Matrix, Pooled, column_name
from app.theme import DIVERGING, GREY, PALETTE, SEQUENTIAL, AnyChart

KEPT = PALETTE[0]
_GRADIENT = alt.Legend(orient="top", gradientLength=180)
PLACE: list[Any] = [alt.Tooltip("top:Q", title="output"), alt.Tooltip("column:N", title="reads")]


def shares(pooled: Pooled, shape: Sequence[int], title: str = "kept (%)") -> AnyChart:
    """A whole layer in cells coloured by a share; clicking one is the selection `cell`."""
    rows, cols = np.indices(pooled.shares.shape).reshape(2, -1)
    width = int(np.prod(shape[1:]))
    frame = pd.DataFrame({"top": rows * pooled.rows, "left": cols * pooled.cols})
    frame["bottom"] = np.minimum(frame["top"] + pooled.rows, shape[0])
    frame["right"] = np.minimum(frame["left"] + pooled.cols, width)
    frame["column"] = [column_name(c, shape) for c in frame["left"]]
    frame["share"] = 100 * pooled.shares.reshape(-1)
    places = list(PLACE)
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
        .properties(height=height(pooled.shares.shape[0]))
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
    frame = window_cells(rows, cols, shape)
    frame["weight"] = values[rows, cols].reshape(-1)
    frame["kept"] = mask[rows, cols].reshape(-1)
    frame["mask"] = np.where(frame["kept"], "kept", "pruned")
    largest = float(np.abs(values).max()) or 1.0
    scale = alt.Scale(scheme={"name": DIVERGING}, domain=[-largest, largest], domainMid=0)
    tooltip = [
        alt.Tooltip("mask:N"),
        alt.Tooltip("weight:Q", title="weight before pruning", format=".4g"),
        *PLACE,
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
        .encode(**centre(rows, cols, shape), tooltip=tooltip)
    )
    if unit == (1, 1) and len(shape) > 2:
        unit = (1, shape[1])  # no groups: the kernel positions
    ground, lines = _ground(rows, cols, unit[1], shape), _lines(rows, cols, unit, shape)
    return alt.layer(*ground, kept, pruned, *lines).properties(
        height=height(rows.stop - rows.start)
    )


def along(sparsities: np.ndarray, what: str) -> AnyChart:
    """The sparsity of each row or column, as steps; 100 % = dead."""
    # Each step reaches to the next place, so the last value needs one more.
    values = 100 * np.append(sparsities, sparsities[-1:])
    frame = pd.DataFrame({what: np.arange(len(values)), "sparsity": values})
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


def window_cells(rows: slice, cols: slice, shape: Sequence[int]) -> pd.DataFrame:
    """One row a weight of a window: its edges, its middle, what it reads."""
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
    across = alt.Scale(domain=list(cols), nice=False)
    down = alt.Scale(domain=list(rows)[::-1], nice=False)
    return (
        {"title": columns, "axis": _numbered(*cols), "scale": across},
        {"title": "output", "axis": _numbered(*rows), "scale": down},
    )


def _numbered(start: int, stop: int) -> alt.Axis:
    """Numbers in the middle of their squares, a dozen at most, at a round step."""
    step = next(
        s for s in (d * 10**p for p in count() for d in (1, 2, 5)) if stop - start <= 12 * s
    )
    middles = [at + 0.5 for at in range(-(-start // step) * step, stop, step)]
    return alt.Axis(values=middles, labelExpr="format(datum.value - 0.5, ',')", grid=False)


def _rectangle(
    rows: tuple[int, int], cols: tuple[int, int], shape: Sequence[int]
) -> dict[str, Any]:
    x, y = _axes(rows, cols, shape)
    return {"x": alt.X("left:Q", **x), "x2": "right", "y": alt.Y("top:Q", **y), "y2": "bottom"}


def centre(rows: slice, cols: slice, shape: Sequence[int]) -> dict[str, Any]:
    """The channels that put a mark in the middle of a weight's square."""
    x, y = _axes((rows.start, rows.stop), (cols.start, cols.stop), shape)
    return {"x": alt.X("x:Q", **x), "y": alt.Y("y:Q", **y)}


def _ground(rows: slice, cols: slice, width: int, shape: Sequence[int]) -> list[AnyChart]:
    """A tint behind every other group of `width` columns."""
    if width == 1:
        return []
    x, _ = _axes((rows.start, rows.stop), (cols.start, cols.stop), shape)
    starts = np.arange(cols.start // width, -(-cols.stop // width)) * width
    bands = pd.DataFrame(
        {"from": starts.clip(cols.start), "to": (starts + width).clip(max=cols.stop)}
    )
    tinted = alt.Chart(bands[starts // width % 2 == 1]).mark_rect(color=GREY, opacity=0.2)
    return [tinted.encode(alt.X("from:Q", **x), alt.X2("to:Q"))]


def _lines(rows: slice, cols: slice, unit: tuple[int, int], shape: Sequence[int]) -> list[AnyChart]:
    """Lines between groups of `unit` weights."""
    x, y = _axes((rows.start, rows.stop), (cols.start, cols.stop), shape)
    layers: list[AnyChart] = []
    for span, step, channel in (
        (rows, unit[0], alt.Y("at:Q", **y)),
        (cols, unit[1], alt.X("at:Q", **x)),
    ):
        if step > 1:
            places = np.arange(span.start, span.stop + 1)
            lines = alt.Chart(pd.DataFrame({"at": places[places % step == 0]}))
            layers.append(lines.mark_rule(color=GREY, strokeWidth=1.5).encode(channel))
    return layers


def height(rows: int) -> int:
    """Pixels for so many rows with axes and legend: rows can be told apart, one screen holds it."""
    return max(220, min(640, 16 * rows + 150))
