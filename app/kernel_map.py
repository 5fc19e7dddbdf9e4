"""The break-even map: from which sparsity a kernel pays, over shapes and batches."""

from collections.abc import Sequence

import altair as alt
import pandas as pd
import streamlit as st

from app import export
from app.kernel_source import Shown, say_where
from app.kernel_words import kernels_command, kernels_python
from app.theme import AnyChart
from sparsity_core.kernels.break_even import break_even
from sparsity_core.kernels.plan import KernelPlan
from sparsity_core.kernels.row import KernelRow
from sparsity_core.kernels.words import is_dense

_ANY = "single weights (any mask)"
_BEST = "any format"


def draw_map(plan: KernelPlan, shown: Shown) -> None:
    """The map of the plan, or the example's where nothing is stored."""
    rows: Sequence[KernelRow] = [row for row in shown.rows if row.p50 is not None]
    if not rows:
        st.info("Nothing is timed yet. Start it: the map fills here.")
        return
    say_where(shown)
    kernels = [k for k in dict.fromkeys(row.kernel for row in rows) if not is_dense(k)]
    kind = st.segmented_control(
        "Format", [_ANY, _BEST, *kernels], default=_ANY, required=True, key="map-format"
    )
    table = even_map(_of(rows, str(kind)))
    export.show(
        _chart(table), table, "break-even-map", command=kernels_command(plan),
        python=kernels_python(plan), key="break-even map",
    )  # fmt: skip
    levels = sorted({row.asked for row in rows})
    st.caption(
        f"Sparsity (%) from which {kind} stays ahead of the quickest float32 dense, hot cache; "
        f"interpolated between the {len(levels)} sparsities timed ({100 * levels[0]:g} to "
        f"{100 * levels[-1]:g} %). ≤ = ahead from the lowest one on; never = behind at the highest."
    )


def even_map(rows: Sequence[KernelRow]) -> pd.DataFrame:
    """One line a shape and batch: the lowest break-even of the rows' kernels, and whose it is."""
    shapes = list(dict.fromkeys((row.rows, row.cols) for row in rows))
    lines = []
    for shape in shapes:
        own = [row for row in rows if (row.rows, row.cols) == shape]
        lowest = 100 * min(row.sparsity for row in own)
        found = break_even(own)
        for batch in dict.fromkeys(row.batch for row in own):
            shares = {k: s for (k, b, _), s in found.items() if b == batch and s is not None}
            best = min(shares, key=lambda kernel: shares[kernel], default="")
            even = 100 * shares[best] if best else None
            text = "never" if even is None else f"{even:.0f}"
            if even is not None and even <= lowest + 0.5:
                text = f"≤ {text}"
            lines.append(
                {
                    "shape": f"{shape[0]} x {shape[1]}",
                    "batch": batch,
                    "even": even,
                    "kernel": best,
                    "text": text,
                }
            )
    return pd.DataFrame(lines)


def _of(rows: Sequence[KernelRow], kind: str) -> list[KernelRow]:
    sparse = [row for row in rows if not is_dense(row.kernel)]
    if kind == _BEST:
        return sparse
    if kind == _ANY:
        return [row for row in sparse if row.structure == "unstructured"]
    return [row for row in sparse if row.kernel == kind]


def _chart(table: pd.DataFrame) -> AnyChart:
    shapes = list(dict.fromkeys(table["shape"]))
    filled = table.assign(even=pd.to_numeric(table["even"]).fillna(100))
    base = alt.Chart(filled).encode(
        alt.X("batch:O", title="batch (samples)", axis=alt.Axis(labelAngle=0)),
        alt.Y("shape:N", sort=shapes, title="outputs x inputs"),
    )
    cells = base.mark_rect(stroke="white").encode(
        alt.Color(
            "even:Q", title="pays from (%)",
            scale=alt.Scale(scheme="viridis", domain=[0, 100], reverse=True),
        ),
        tooltip=["shape:N", "batch:O", alt.Tooltip("text:N", title="pays from (%)"), "kernel:N"],
    )  # fmt: skip
    ink = alt.condition("datum.even > 45", alt.value("white"), alt.value("black"))
    text = base.mark_text(fontSize=14, fontWeight="bold", dy=-6)
    whose = base.mark_text(fontSize=10, dy=10)
    return alt.layer(
        cells, text.encode(alt.Text("text:N"), color=ink), whose.encode(text="kernel:N", color=ink)
    ).properties(height=60 * len(shapes))
