"""The filters of a convolution side by side: one small picture a filter, one kernel an input."""

import math
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from app.theme import DIVERGING, GREY, PALETTE, AnyChart

# In weights: gaps between kernels and between filters, room for a filter's title.
_KERNEL_GAP, _FILTER_GAP, _TITLE = 1, 2, 3
_WIDTH = 80  # weights across that stay visible on a narrow screen
_MOST = 2304  # weights in one picture


def kernels_of(tensor: np.ndarray) -> np.ndarray:
    """A weight or mask of any convolution as (outputs, inputs, height, width)."""
    outputs, inputs, *_, width = tensor.shape
    return tensor.reshape(outputs, inputs, -1, width)


def per_picture(shape: tuple[int, ...]) -> int:
    """How many filters one picture holds."""
    return max(1, _MOST // math.prod(shape[1:]))


def filters(mask: np.ndarray, values: np.ndarray, chosen: range, by_value: bool) -> AnyChart:
    """The chosen filters with their kept weights filled, in blue or coloured by their values.

    `mask`, `values`: (outputs, inputs, height, width).
    """
    frame, titles = _cells(mask, values, chosen)
    across, down = float(frame["right"].max()), float(frame["bottom"].max())
    place: dict[str, Any] = {
        "x": alt.X("left:Q", axis=None, scale=alt.Scale(domain=[0, across], nice=False)),
        "y": alt.Y("top:Q", axis=None, scale=alt.Scale(domain=[down, 0], nice=False)),
    }
    largest = float(np.abs(values).max()) or 1.0
    scale = alt.Scale(scheme={"name": DIVERGING}, domain=[-largest, largest], domainMid=0)
    colour = alt.Color(
        "weight:Q", title="weight", scale=scale, legend=alt.Legend(orient="top", gradientLength=180)
    )
    tooltip: list[Any] = [
        alt.Tooltip("mask:N"),
        alt.Tooltip("weight:Q", title="weight before pruning", format=".4g"),
        alt.Tooltip("filter:Q"),
        alt.Tooltip("input:Q"),
        alt.Tooltip("place:N", title="kernel position"),
    ]
    cells = alt.Chart(frame).encode(**place, x2="right", y2="bottom", tooltip=tooltip)
    pruned = cells.transform_filter("datum.mask == 'pruned'").mark_rect(
        fillOpacity=0.04, fill=GREY, stroke=GREY, strokeWidth=0.4
    )
    kept = (
        cells.transform_filter("datum.mask == 'kept'")
        .mark_rect(stroke=GREY, strokeWidth=0.4)
        .encode(color=colour if by_value else alt.value(PALETTE[0]))
    )
    text = (
        alt.Chart(titles)
        .mark_text(align="left", baseline="bottom", fontSize=11, color=GREY)
        .encode(**place, text="title:N")
    )
    return alt.layer(pruned, kept, text).properties(height=min(760, round(16 * down)))


def _cells(
    mask: np.ndarray, values: np.ndarray, chosen: range
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a weight with its place on the sheet, and one title a filter."""
    inputs, height, width = mask.shape[1:]
    across = math.ceil(math.sqrt(inputs * height / width))  # kernels, so that filters are square
    filter_width = across * (width + _KERNEL_GAP) + _FILTER_GAP
    filter_height = -(-inputs // across) * (height + _KERNEL_GAP) + _TITLE
    columns = max(1, min(5, _WIDTH // filter_width, len(chosen)))
    f, i, y, x = np.indices((len(chosen), inputs, height, width)).reshape(4, -1)
    part = slice(chosen.start, chosen.stop)
    frame = pd.DataFrame(
        {
            "filter": f + chosen.start,
            "input": i,
            "place": [f"({row}, {column})" for row, column in zip(y, x, strict=True)],
            "left": (f % columns) * filter_width + (i % across) * (width + _KERNEL_GAP) + x,
            "top": (f // columns) * filter_height + (i // across) * (height + _KERNEL_GAP) + y,
            "weight": values[part].reshape(-1),
            "mask": np.where(mask[part].reshape(-1), "kept", "pruned"),
        }
    )
    frame["top"] += _TITLE - 1
    frame["right"], frame["bottom"] = frame["left"] + 1, frame["top"] + 1
    number = np.arange(len(chosen))
    kept = mask[part].reshape(len(chosen), -1).mean(1)
    titles = pd.DataFrame(
        {
            "left": (number % columns) * filter_width,
            "top": (number // columns) * filter_height + _TITLE - 1.3,
            "title": [
                f"{n}: " + ("dead" if share == 0 else f"{share:.0%} kept")
                for n, share in zip(chosen, kept, strict=True)
            ],
        }
    )
    return frame, titles
