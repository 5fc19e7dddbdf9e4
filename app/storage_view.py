"""What a masked model weighs in each storage format: a count, from masks and shapes alone."""

import pandas as pd
import streamlit as st

from app import cache
from sparsity_core.cost import FORMATS, Cost, cost
from sparsity_core.prune import Pruning


def draw_storage(model: str, pruning: Pruning) -> None:
    """Non-zeros, multiply-adds and bytes a format, per layer and for the whole model."""
    task = cache.task(model)
    found = cost(task.model, task.train.inputs[:1], pruning.masks)
    sizes = {f: size for f in FORMATS if (size := found.total_bytes(f)) is not None}
    smallest = min(sizes, key=sizes.__getitem__)
    title = (
        f"Cost: {found.nonzeros:,} of {found.parameters:,} parameters, "
        f"{found.effective_macs / found.macs:.0%} of the multiply-adds, "
        f"smallest as {smallest} ({sizes[smallest] / 1024:.1f} KiB)"
    )
    with st.expander(title, icon=":material/scale:"):
        st.dataframe(storage_table(found), hide_index=True, placeholder="does not fit")
        st.caption(
            "Multiply-adds are for one sample; those by a zero are left out, which is a count and "
            "no speed. Bytes: bitmask = one bit a weight and the values kept; csr = values with "
            "32-bit columns and row starts; 2:4 = half of the values and two bits for each. "
            "Biases and norms are stored dense."
        )


def storage_table(found: Cost) -> pd.DataFrame:
    """One line a layer, and one for all."""
    lines = [
        {
            "layer": layer.name,
            "weights": layer.parameters,
            "not zero": layer.nonzeros,
            "multiply-adds": layer.macs,
            "not by zero": layer.effective_macs,
            **{f"{name} (bytes)": layer.bytes[name] for name in FORMATS},
        }
        for layer in found.layers
    ]
    total = {
        "layer": "whole model",
        "weights": found.parameters,
        "not zero": found.nonzeros,
        "multiply-adds": found.macs,
        "not by zero": found.effective_macs,
        **{f"{name} (bytes)": found.total_bytes(name) for name in FORMATS},
    }
    table = pd.DataFrame([*lines, total])
    return table.astype({name: "Int64" for name in table.columns if name != "layer"})
