"""The parts of the Model page: card, samples with predictions, layers, weights, first result."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import cache, export
from app.model_charts import BINS, layer_shares, weight_histogram
from app.reproduce import layers_python, weights_python
from app.sensitivity_charts import all_layers, frame_of, heatmap
from sparsity_core.intervals import proportion
from sparsity_core.plans import row_from_dict
from sparsity_core.task import SPLITS, Task

_SAMPLES = 24


def draw_card(task: Task) -> None:
    """Accuracy on each split with its interval, and where the model comes from."""
    card = task.card
    if card is None:
        st.info("This model came without a card; its accuracy is measured by the first sweep.")
        return
    for column, split in zip(st.columns(3), SPLITS, strict=True):
        found = card["accuracy"][split]
        samples = found["samples"]
        interval = proportion(round(found["value"] * samples), samples)
        column.metric(
            f"Accuracy on {split}",
            f"{interval.value:.1%}",
            help="Top-1; the interval is Wilson's, for the sampling of the split.",
        )
        column.caption(f"95 %: {interval.low:.1%} to {interval.high:.1%}, {samples:,} samples")
    with st.expander("Card: data, training, versions"):
        st.markdown(f"{card['architecture']}. Data: {card['data_source']}.")
        st.caption("Train it again")
        st.code(card["command"], language="bash")
        st.json({k: card[k] for k in ("spread", "training", "versions") if k in card})


def draw_samples(task: Task) -> None:
    """The first test inputs with what the model says; a wrong answer says so in words."""
    first = task.test.take(_SAMPLES)
    answers = cache.predictions(task.name, task.model_digest, "test", _SAMPLES)
    names = task.classes or [str(i) for i in range(max(*answers, *first.targets.tolist()) + 1)]
    pictures = [_picture(image.numpy()) for image in first.inputs]
    captions = [
        names[answer] if answer == target else f"{names[answer]}, is {names[target]}"
        for answer, target in zip(answers, first.targets.tolist(), strict=True)
    ]
    wrong = sum(a != t for a, t in zip(answers, first.targets.tolist(), strict=True))
    st.caption(
        f"The first {len(first)} test inputs and what the model takes them for; {wrong} wrong."
    )
    st.image(pictures, captions, width=72)


def draw_layers(task: Task) -> None:
    """A table of layers with their share of weights and products, and what is not pruned."""
    facts = cache.facts(task.name)
    total = facts.cost
    chart, shares = layer_shares(total)
    left, right = st.columns([3, 2])
    with left:
        st.dataframe(
            pd.DataFrame(
                [
                    {
                        "layer": layer.name,
                        "kind": layer.kind,
                        "shape": " x ".join(map(str, layer.shape)),
                        "weights": layer.parameters,
                        "multiply-adds a sample": layer.macs,
                        "note": _note(task.name, layer.name),
                    }
                    for layer in total.layers
                ]
            ),
            hide_index=True,
        )
        st.caption(
            f"{total.parameters:,} parameters, {total.macs:,} multiply-adds a sample "
            f"({total.other_macs:,} of them attention products, which have no weights)."
        )
    with right:
        export.show(chart, shares, "layer-shares", python=layers_python(task.name))
    with st.expander(f"{len(facts.others)} tensors that are not pruned, and why"):
        st.dataframe(
            pd.DataFrame({"tensor": list(facts.others), "why": list(facts.others.values())}),
            hide_index=True,
        )


def draw_weights(task: Task) -> None:
    """The histogram of one layer's weights."""
    layers = list(cache.facts(task.name).layers)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    layer = left.selectbox("Layer", layers, key=f"histogram {task.name}")
    logarithmic = right.toggle("Log counts", key="log counts")
    weights = dict(task.model.named_parameters())[layer].detach().numpy()
    zeros = int((weights == 0).sum())
    chart, table = weight_histogram(weights, logarithmic)
    export.show(chart, table, "weights", python=weights_python(task.name, layer, BINS))
    st.caption(
        f"{weights.size:,} weights, {zeros:,} of them exactly zero; mean {weights.mean():.3g}, "
        f"standard deviation {weights.std():.3g}."
    )


def draw_first_result(name: str, shipped: Mapping[str, Any]) -> None:
    """A finished sweep that ships with the project, so that the first screen has an answer."""
    rows = [row_from_dict("sweep", row) for row in shipped["rows"]]
    table = frame_of(rows)  # type: ignore[arg-type]
    ways = list(dict.fromkeys(table["way"]))
    way = st.pills("Scorer · structure", ways, default=ways[0], key="first way") or ways[0]
    shown = table[table["way"] == way]
    layers = list(dict.fromkeys(shown["layer"]))
    most = shown.groupby("layer")["drop"].max().idxmax()
    left, right = st.columns([3, 2])
    command = shipped["command"]
    with left:
        export.show(
            all_layers(shown, most, rows[0].metric), shown, f"{name}-layers", command=command
        )
    with right:
        export.show(heatmap(shown, most), shown, f"{name}-heatmap", command=command)
    st.caption(
        f"{len(layers)} layers, each pruned alone; computed when this version was made with "
        f"`{command}` ({rows[0].versions}). Your own sweeps: the Sensitivity page."
    )


def _note(name: str, layer: str) -> str:
    facts = cache.facts(name)
    notes = [facts.layers[layer].note] if facts.layers[layer].note else []
    if not facts.uses[layer]:
        notes.append("never used in the forward pass")
    elif facts.uses[layer] > 1:
        notes.append(f"used {facts.uses[layer]} times")
    return "; ".join(notes)


def _picture(image: np.ndarray) -> np.ndarray:
    """An input (C, H, W) as a picture with square pixels and a clear margin at the right."""
    low, high = float(image.min()), float(image.max())
    scaled = (255 * (image - low) / ((high - low) or 1)).astype(np.uint8)
    colours = scaled if len(scaled) == 3 else scaled[:1].repeat(3, 0)
    times = max(1, 64 // image.shape[1])
    pixels = colours.transpose(1, 2, 0).repeat(times, 0).repeat(times, 1)  # (H', W', 3)
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    return np.pad(opaque, ((0, 0), (0, 8), (0, 0)))
