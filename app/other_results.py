"""Results of another tool over ours, for one layer; tagged as another's wherever they stand."""

from collections.abc import Sequence

import altair as alt
import pandas as pd
import streamlit as st

from app import export
from app.sensitivity_table import frame_of
from app.theme import HIGHLIGHT, PALETTE, AnyChart
from sparsity_core.errors import SparsityError
from sparsity_core.intake.other_results import Columns, OtherPoint, headings, read_other
from sparsity_core.metrics import METRICS, is_share
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.sweep.point import Result

_LARGEST = 8  # MB
_MARKS = ("circle", "square", "triangle-up", "cross", "triangle-down")  # ours; theirs: diamond


def draw_other(plan: SweepPlan, rows: Sequence[Result]) -> None:
    """An uploader, and both curves of a layer once there is something to lay over."""
    with st.expander("Lay results of another tool over these", icon=":material/layers:"):
        file = st.file_uploader(
            "CSV of Distiller, of NNI, or any with a column for layer, sparsity and value",
            type=["csv"],
            key="other results",
            max_upload_size=_LARGEST,
        )
        if file is None:
            st.caption(
                "Distiller: `parameter,sparsity,top1,top5,loss`. NNI: `layername,0.1,0.2,...`. "
                "Names may begin with `module.`. The file is read and not kept."
            )
            return
        content = file.getvalue()
        try:
            points = read_other(content, plan.layers, _columns(content))
            _draw(plan, rows, points)
        except SparsityError as error:
            st.error(str(error))


def _columns(content: bytes) -> Columns | None:
    """Which column says what, asked only where the table is no known tool's."""
    names = headings(content)
    if {"parameter", "sparsity"} <= set(names) or "layername" in names:
        return None
    boxes = st.columns(4)
    layer, sparsity, value = (
        box.selectbox(what, names, index=min(i, len(names) - 1), key=f"other {what}")
        for i, (box, what) in enumerate(
            zip(boxes, ("layer", "sparsity", "value"), strict=False)
        )
    )  # fmt: skip
    metric = boxes[3].selectbox("which is", list(METRICS), key="other metric")
    return Columns(layer, sparsity, value, metric)


def _draw(plan: SweepPlan, rows: Sequence[Result], points: Sequence[OtherPoint]) -> None:
    unknown = sorted({point.layer for point in points if not point.known})
    if unknown:
        shown = ", ".join(f"`{name}`" for name in unknown[:6])
        st.caption(f"{len(unknown)} of its layers are none of this sweep's: {shown}")
    metric, tool = plan.setting.metric, points[0].tool
    found = [point for point in points if point.known and point.metric == metric]
    if not found:
        st.warning(
            f"The file has no {metric} of a layer of this sweep; it has "
            f"{', '.join(sorted({point.metric for point in points}))}."
        )
        return
    layers = [name for name in plan.layers if any(point.layer == name for point in found)]
    layer = st.selectbox("Layer of both", layers, key="other layer")
    table = _table(plan, rows, found, layer, metric)
    export.show(_chart(table, metric), table, f"{layer}-beside-{tool}".replace(" ", "-"))
    st.caption(
        f"The dashed line is {tool}'s, from the uploaded file: another model state, data or "
        "way of pruning may stand behind it, and nothing of it was measured here. Ours: "
        f"{plan.setting.samples:,} {plan.setting.split} samples."
    )


def _table(
    plan: SweepPlan, rows: Sequence[Result], points: Sequence[OtherPoint], layer: str, metric: str
) -> pd.DataFrame:
    scale = 100 if is_share(metric) else 1
    own = frame_of([row for row in rows if row.layer == layer])
    parts = [
        pd.DataFrame(
            {
                "sparsity": [100 * point.sparsity for point in points if point.layer == layer],
                "value": [scale * point.value for point in points if point.layer == layer],
                "whose": f"{points[0].tool} (uploaded)",
            }
        )
    ]
    if not own.empty:
        own = own[own["value"].notna()]
        parts.insert(0, own[["sparsity", "value"]].assign(whose="measured here, " + own["way"]))
    return pd.concat(parts, ignore_index=True).assign(layer=layer, model=plan.model)


def _chart(table: pd.DataFrame, metric: str) -> AnyChart:
    whose = list(dict.fromkeys(table["whose"]))
    own = [name for name in whose if not name.endswith("(uploaded)")]
    inks = [*(PALETTE[i % (len(PALETTE) - 2)] for i in range(len(own))), HIGHLIGHT]
    marks = [_MARKS[i % len(_MARKS)] for i in range(len(own))]
    order = [*own, *(name for name in whose if name not in own)]
    unit = " (%)" if is_share(metric) else ""
    legend = alt.Legend(orient="bottom", direction="vertical", title=None, labelLimit=400)
    colour = alt.Color("whose:N", scale=alt.Scale(domain=order, range=inks), legend=legend)
    dash = alt.StrokeDash(
        "whose:N",
        scale=alt.Scale(domain=order, range=[[1, 0]] * len(own) + [[6, 3]]),
        legend=None,
    )
    shape = alt.Shape(
        "whose:N",
        scale=alt.Scale(domain=order, range=[*marks, "diamond"]),
        legend=legend,
    )
    base = alt.Chart(table).encode(
        alt.X(
            "sparsity:Q",
            title="sparsity of the layer (%)",
            scale=alt.Scale(domain=[0, 100]),
            axis=alt.Axis(tickCount=6),
        ),
        alt.Y("value:Q", title=f"{metric}{unit}", scale=alt.Scale(zero=False)),
        colour,
        alt.Tooltip(["whose:N", "sparsity:Q", "value:Q"]),
    )
    lines = base.mark_line().encode(dash)
    return alt.layer(lines, base.mark_point(filled=True, size=70).encode(shape)).properties(
        height=400
    )
