"""Two masks of one layer drawn over each other; shape and words say what colour says."""

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from app.mask_charts import PLACE, centre, height, window_cells
from app.mask_view import Agreement, Matrix
from app.theme import GREY, PALETTE, AnyChart

PARTS = {  # what two recipes make of a weight -> colour, shape
    "both": (PALETTE[0], "square"),
    "only A": (PALETTE[1], "triangle-up"),
    "only B": (PALETTE[3], "triangle-down"),
}


def overlap(a: Matrix, b: Matrix, rows: slice, cols: slice, shape: Sequence[int]) -> AnyChart:
    """The single weights of a window in two recipes: kept by both, by one, or (blank) by none."""
    frame = window_cells(rows, cols, shape)
    in_a, in_b = a[rows, cols].reshape(-1), b[rows, cols].reshape(-1)
    frame["kept by"] = np.select([in_a & in_b, in_a, in_b], list(PARTS), "none")
    size = max(8.0, min(110.0, 90_000 / max(1, len(frame))))
    return (
        alt.Chart(frame[frame["kept by"] != "none"])
        .mark_point(filled=True, size=size, opacity=1)
        .encode(
            **centre(rows, cols, shape),
            color=_part_colours("kept by"),
            shape=alt.Shape(
                "kept by:N",
                legend=alt.Legend(orient="top"),
                scale=alt.Scale(domain=list(PARTS), range=[shape for _, shape in PARTS.values()]),
            ),
            tooltip=[alt.Tooltip("kept by:N"), *PLACE],
        )
        .properties(height=height(rows.stop - rows.start))
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
    bars = base.mark_bar(stroke=GREY, strokeWidth=1).encode(color=_part_colours("part"))
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


def _part_colours(field: str) -> alt.Color:
    return alt.Color(
        f"{field}:N",
        title="kept by",
        legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=list(PARTS), range=[colour for colour, _ in PARTS.values()]),
    )
