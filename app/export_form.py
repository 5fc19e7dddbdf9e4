"""What to write: from choices on screen to an order."""

from dataclasses import replace
from importlib.util import find_spec

import streamlit as st

from app import cache
from app.curve_names import label
from app.export_job import Order
from app.forms import folded
from app.known_sweeps import with_curves
from app.state import Frame
from sparsity_core.export.package import Wanted
from sparsity_core.export.sparse_file import LAYOUTS
from sparsity_core.machine import resolve_device
from sparsity_core.recipe import Recipe, Training

_LAYOUTS = {
    "dense": "plain safetensors; anything reads it",
    "bitmask": "a bit a weight and the values, as compressed-tensors lays it out",
    "csr": "values, columns and row starts",
    "smallest": "the smallest of the three, tensor by tensor",
}


def choose_export(frame: Frame) -> Order:
    """The form; raises SparsityError for choices that make no order."""
    with folded("Choose what to write"):
        recipe = with_curves(frame.recipe, frame.model)
        st.caption(f"The sidebar's recipe: **{label(recipe)}, {recipe.sparsity:.0%}**.")
        left, middle, right = st.columns(3)
        epochs = left.number_input(
            "Fine-tuning epochs", 0, 100, 5, key="export-epochs", bind="query-params",
            help="After pruning, under the masks; with SGD and a rate of 0.01 that falls to 0.",
        )  # fmt: skip
        layout = middle.selectbox(
            "Layout of the checkpoint", LAYOUTS, key="export-layout", bind="query-params",
            help="; ".join(f"`{name}`: {what}" for name, what in _LAYOUTS.items()) + ".",
        )  # fmt: skip
        middle.caption(f"{_LAYOUTS[layout]}.".capitalize())
        batch = right.number_input(
            "Batch that is timed", 1, 4096, 64, key="export-batch", bind="query-params",
            help="Samples in one forward pass, on one thread.",
        )  # fmt: skip
        shrunk = left.toggle(
            "Shrunk model", True, key="export-shrunk", bind="query-params",
            help="Channels whose weights are all zero are taken out; outputs stay the same.",
        )  # fmt: skip
        missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]
        onnx = middle.toggle(
            "ONNX", not missing, key="export-onnx", bind="query-params", disabled=bool(missing),
            help="For batches of any size, compared with onnxruntime.",
        )  # fmt: skip
        if missing:
            middle.caption("Needs `pip install 'sparsity-explorer[onnx]'`.")
        wanted = Wanted(str(layout), shrunk, onnx and not missing, int(batch))
    task = cache.task(frame.model)
    device = resolve_device(frame.device)
    return Order(frame.model, task.model_digest, _trained(recipe, int(epochs)), device, wanted)


def _trained(recipe: Recipe, epochs: int) -> Recipe:
    return replace(recipe, training=Training(epochs=epochs) if epochs else None)
