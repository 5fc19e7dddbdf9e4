"""The whole model: four kinds of smaller side by side, which layers pay, and where gains go."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app import export, uploads
from app.kernel_source import Shown, say_where
from app.kernel_words import latency_python
from app.latency_charts import before_after, four_kinds, layers_of
from sparsity_core.kernels.latency import LatencyPlan
from sparsity_core.kernels.latency_row import WHOLE, LatencyRow
from sparsity_core.kernels.latency_words import model_in_words


def draw_model(plan: LatencyPlan, shown: Shown) -> None:
    """A model before and after packing; the plan's own rows or the example's."""
    rows: Sequence[LatencyRow] = [row for row in shown.rows if row.status == "ok"]
    if not rows:
        st.info("Nothing is timed yet. Start it: the model appears here layer by layer.")
        _draw_trouble(shown.rows)
        return
    batches = list(dict.fromkeys(row.batch for row in rows))
    batch = st.segmented_control(
        "Batch", batches, default=batches[0], required=True, key=f"latency-batch {batches}"
    )
    here = [row for row in rows if row.batch == batch]
    whole = next((row for row in here if row.layer == WHOLE), None)
    if whole is None:
        st.info(f"Batch {batch} is not timed yet.")
        return
    st.markdown(f"#### {model_in_words(here)}")
    st.caption(f"{whole.message}.")
    say_where(shown)
    if shown.shipped and whole.model != plan.model:
        own = uploads.label_of(plan.model)
        st.caption(f"The example is of **{whole.model}**; there is none of {own}.")
    python = latency_python(plan)
    name = f"{whole.model}-{batch}"
    left, right = st.columns(2)
    with left:
        st.subheader("Four kinds of smaller")
        chart, table = four_kinds(whole)
        export.show(chart, table, f"four-kinds-{name}", python=python, key="four kinds")
        st.caption(
            f"{whole.model}, {whole.recipe}, batch {batch}. Zeros and multiply-adds are counts, "
            "bytes follow from the masks, time is measured: only the last one is a speed. Dashed: "
            "the dense model."
        )
        _draw_ways(whole)
    with right:
        st.subheader("Layer by layer")
        if any(row.p50 is not None for row in here if row.layer != WHOLE):
            chart, table = before_after(here)
            export.show(chart, table, f"layers-{name}", python=python, key="before after")
            st.caption(
                "Ring: the layer's own dense product; dot: as it runs now. Each layer timed on "
                f"its own inputs, hot cache, batch {batch}; fused with others it copies less."
            )
        else:
            st.info("No masked layer can run packed.")
    _draw_gaps(here)
    _draw_trouble(shown.rows)


def _draw_ways(whole: LatencyRow) -> None:
    ways = {
        "dense, eager": whole.dense_p50,
        "dense, batch norms folded": whole.folded_p50,
        "dense, torch.compile": whole.compiled_p50,
        "dense, onnxruntime": whole.onnxruntime_p50,
        "packed": whole.p50,
    }
    known = {name: us for name, us in ways.items() if us is not None}
    st.dataframe(
        pd.DataFrame({"way": known.keys(), "ms": [us / 1e3 for us in known.values()]}).style.format(
            precision=3
        ),
        hide_index=True,
    )
    absent = [name for name in ways if name not in known]
    noise = f"The same dense model timed twice differs by {whole.noise or 0:.1%}."
    st.caption(noise + (f" Not timed: {', '.join(absent)}." if absent else ""))


def _draw_gaps(rows: Sequence[LatencyRow]) -> None:
    table = layers_of(rows)
    columns = {
        "layer": "layer", "weights (%)": "weights left (%)", "bytes (%)": "bytes left (%)",
        "multiply-adds (%)": "multiply-adds left (%)", "time (%)": "time left (%)",
        "kernel": "runs as", "dense_p50": "dense (µs)", "p50": "now (µs)", "speedup": "x",
    }  # fmt: skip
    st.subheader("Where the gain went")
    st.dataframe(
        table[list(columns)].rename(columns=columns).style.format(precision=1),
        hide_index=True,
        placeholder="",
    )
    with st.expander("In words, layer by layer", expanded=len(table) <= 12):
        lines = zip(table["layer"], table["message"], strict=True)
        st.markdown("\n".join(f"- `{layer}`: {words}" for layer, words in lines))


def _draw_trouble(rows: Sequence[LatencyRow]) -> None:
    failed = {row.message for row in rows if row.status == "failed"}
    for message in failed:
        st.error(message)
