"""Whole models drawn: four kinds of smaller side by side, and each layer before and after."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import altair as alt
import pandas as pd

from app.theme import GREY, AnyChart, colours
from sparsity_core.kernels.latency_row import WHOLE, LatencyRow

_LEFT = "left of dense (%)"


def layers_of(rows: Sequence[LatencyRow]) -> pd.DataFrame:
    """One line a layer of one batch, with what is left of the dense in per cent."""
    table = pd.DataFrame([asdict(row) for row in rows])
    for name, part, whole in (
        ("weights (%)", "nonzeros", "weights"),
        ("bytes (%)", "bytes", "dense_bytes"),
        ("multiply-adds (%)", "effective_macs", "macs"),
        ("time (%)", "p50", "dense_p50"),
    ):
        table[name] = 100 * pd.to_numeric(table[part]) / pd.to_numeric(table[whole])
    return table


def four_kinds(whole: LatencyRow) -> tuple[AnyChart, pd.DataFrame]:
    """Zeros, bytes in each format, multiply-adds and milliseconds: what is left of each."""

    def line(
        kind: str, what: str, left: float | None, dense: float | None, unit: str
    ) -> dict[str, Any]:
        if left is None or not dense:
            return {}
        words = f"{_number(left)} of {_number(dense)} {unit} ({100 * left / dense:.0f} %)"
        return {"kind": kind, "what": what, _LEFT: 100 * left / dense, "label": words}

    best = min(
        t
        for t in (
            *(whole.dense_p50, whole.folded_p50),
            *(whole.compiled_p50, whole.onnxruntime_p50),
        )
        if t is not None
    )
    lines = [
        line("zeros", "weights not zero", whole.nonzeros, whole.weights, ""),
        line("bytes", "stored as bitmask", whole.bitmask_bytes, whole.dense_bytes, "bytes"),
        line("bytes", "stored as csr", whole.csr_bytes, whole.dense_bytes, "bytes"),
        line("bytes", "stored as it runs", whole.bytes, whole.dense_bytes, "bytes"),
        line("multiply-adds", "multiply-adds not by zero", whole.effective_macs, whole.macs, ""),
        line("time", "time, over eager dense", whole.p50, whole.dense_p50, "µs"),
        line("time", "time, over the best dense", whole.p50, best, "µs"),
    ]
    table = pd.DataFrame([one for one in lines if one])
    kinds = list(dict.fromkeys(table["kind"]))
    y = alt.Y(
        "what:N",
        sort=table["what"].tolist(),
        title=None,
        axis=alt.Axis(labelLimit=220, labelOverlap=False),
    )
    # The words behind the longest bar need as much room as the bar, on a narrow screen.
    scale = alt.Scale(domain=[0, max(140, 2.2 * float(table[_LEFT].max()))])
    x = alt.X(f"{_LEFT}:Q", title="left of the dense model (%)", scale=scale)
    base = alt.Chart(table).encode(y, x)
    colour = alt.Color(
        "kind:N", sort=kinds, legend=None,
        scale=alt.Scale(domain=kinds, range=colours(len(kinds))),
    )  # fmt: skip
    chart = alt.layer(
        base.mark_bar(height=18).encode(colour, tooltip=["what:N", "label:N"]),
        base.mark_text(align="left", dx=6, color=GREY).encode(text="label:N"),
        alt.Chart(pd.DataFrame([{"at": 100}])).mark_rule(color=GREY, strokeDash=[3, 3]).encode(
            alt.X("at:Q", scale=scale)
        ),
    )  # fmt: skip
    return chart.properties(height=34 * len(table) + 50), table


def before_after(rows: Sequence[LatencyRow]) -> tuple[AnyChart, pd.DataFrame]:
    """Microseconds of each layer, dense as a ring and as it runs now as a dot, joined."""
    table = layers_of([row for row in rows if row.layer != WHOLE and row.p50 is not None])
    table["pays"] = ["pays" if x > 1 else "stays dense" for x in table["speedup"]]
    order = table["layer"].tolist()
    y = alt.Y("layer:N", sort=order, title=None, axis=alt.Axis(labelLimit=240, labelOverlap=False))
    scale = alt.Scale(type="log")
    base = alt.Chart(table).encode(y)
    colour = alt.Color(
        "pays:N",
        scale=alt.Scale(domain=["pays", "stays dense"], range=[colours(1)[0], GREY]),
        legend=alt.Legend(title=None, orient="top"),
    )
    shape = alt.Shape(
        "pays:N", scale=alt.Scale(domain=["pays", "stays dense"], range=["circle", "square"])
    )
    tips = [
        "layer:N", "kernel:N", alt.Tooltip("dense_p50:Q", format=".4g", title="dense (µs)"),
        alt.Tooltip("p50:Q", format=".4g", title="now (µs)"),
        alt.Tooltip("speedup:Q", format=".2f", title="times as fast"), "message:N",
    ]  # fmt: skip
    chart = alt.layer(
        base.mark_rule(strokeWidth=2).encode(
            alt.X("p50:Q", scale=scale, title="microseconds in this layer (log axis)"),
            alt.X2("dense_p50:Q"), colour,
        ),
        base.mark_point(size=90, color=GREY, filled=False, strokeWidth=2).encode(
            alt.X("dense_p50:Q", scale=scale), tooltip=tips
        ),
        base.mark_point(size=90, filled=True, opacity=1).encode(
            alt.X("p50:Q", scale=scale), colour, shape, tooltip=tips
        ),
    )  # fmt: skip
    return chart.properties(height=max(3, len(order)) * 26 + 120), table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
