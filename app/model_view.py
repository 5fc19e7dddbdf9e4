"""The parts of the Model page: card, samples with predictions, layers, weights, first result."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import cache, export
from app.chosen_layer import follow_row, pick_layer
from app.model_charts import bins_for, weight_histogram
from app.reproduce import weights_python
from app.sensitivity_charts import all_layers, heatmap
from app.sensitivity_table import frame_of
from sparsity_core.intervals import proportion
from sparsity_core.plans import row_from_dict
from sparsity_core.structures import STRUCTURES, Structure
from sparsity_core.task import SPLITS, Task

_SAMPLES = 24


def draw_card(task: Task) -> None:
    """Accuracy on each split with its interval, and where the model comes from."""
    card = task.card
    if card is None:
        st.info(f"This model came without a card; the first sweep measures its {task.metric.name}.")
        if task.notes:
            st.text("\n".join(task.notes))  # not as Markdown: names of files may be in it
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
    """Some test inputs with what the model says; a wrong answer says so in words."""
    if task.test.targets.dim() != 1 or task.test.targets.is_floating_point():
        st.caption("Its samples have no classes, so none are shown.")
        return
    shown = cache.spread(task.test, _SAMPLES)
    answers = cache.predictions(task.name, task.model_digest, _SAMPLES)
    names = task.classes or [str(i) for i in range(max(*answers, *shown.targets.tolist()) + 1)]
    captions = [
        names[answer] if answer == target else f"{names[answer]}, is {names[target]}"
        for answer, target in zip(answers, shown.targets.tolist(), strict=True)
    ]
    wrong = sum(a != t for a, t in zip(answers, shown.targets.tolist(), strict=True))
    st.caption(
        f"{len(shown)} of {len(task.test):,} test inputs, evenly spaced, and what the model takes "
        f"them for; {wrong} wrong."
    )
    if shown.inputs.dim() == 4:
        st.image([_picture(image.numpy()) for image in shown.inputs], captions, width=72)
    else:  # no picture can be made of them
        st.dataframe(pd.DataFrame({"answer, and what it is when wrong": captions}).T)


def draw_layers(task: Task, structure: Structure) -> None:
    """A table of layers with their share of weights and products, and what is not pruned."""
    facts = cache.facts(task.name)
    total = facts.cost
    layers = [layer.name for layer in total.layers]
    weights = sum(layer.parameters for layer in total.layers) or 1
    products = sum(layer.macs for layer in total.layers) or 1
    share = partial(st.column_config.ProgressColumn, format="%.1f %%", max_value=100)
    st.dataframe(
        pd.DataFrame(
            [
                {
                    "layer": layer.name,
                    "kind": layer.kind,
                    "shape": " x ".join(map(str, layer.shape)),
                    "weights": layer.parameters,
                    "share of weights": 100 * layer.parameters / weights,
                    "multiply-adds": layer.macs,
                    "share of multiply-adds": 100 * layer.macs / products,
                    "note": _note(facts, layer.name, structure),
                }
                for layer in total.layers
            ]
        ),
        column_config={
            "weights": st.column_config.NumberColumn(format="localized"),
            "multiply-adds": st.column_config.NumberColumn(format="localized", help="a sample"),
            "share of weights": share(help="of all layers listed"),
            "share of multiply-adds": share(help="of all layers listed"),
        },
        hide_index=True,
        on_select=partial(follow_row, "layers", layers),
        selection_mode="single-row",
        key="layers",
    )
    attention = (
        f", {total.other_macs:,} of them products of attention, which have no weights"
        if total.other_macs
        else ""
    )
    st.caption(
        f"{total.parameters:,} parameters; {total.macs:,} multiply-adds a sample{attention}. "
        "Click a row to see its weights below."
    )
    with st.expander(f"{len(facts.others)} tensors that are not pruned, and why"):
        st.dataframe(
            pd.DataFrame({"tensor": list(facts.others), "why": list(facts.others.values())}),
            hide_index=True,
        )


def draw_weights(task: Task) -> None:
    """The histogram of the chosen layer's weights."""
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        layer = pick_layer(list(cache.facts(task.name).layers))
    logarithmic = right.toggle("Log counts", key="log-counts", bind="query-params")
    weights = dict(task.model.named_parameters())[layer].detach().numpy()
    finite = np.isfinite(weights)
    chart, table = weight_histogram(weights, logarithmic)
    export.show(
        chart, table, f"{task.name}-{layer}-weights", key="weights",
        python=weights_python(task.name, layer, bins_for(int(finite.sum()))),
    )  # fmt: skip
    st.caption(_summary(weights, finite))


def draw_first_result(name: str, shipped: Mapping[str, Any]) -> None:
    """A finished sweep that ships with the project, so that the first screen has an answer."""
    rows: list[Any] = [row_from_dict("sweep", row) for row in shipped["rows"]]
    table = frame_of(rows)
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


def _summary(weights: np.ndarray, finite: np.ndarray) -> str:
    broken = int((~finite).sum())
    parts = [f"{weights.size:,} weights", f"{int((weights == 0).sum()):,} of them exactly zero"]
    if broken:
        parts.append(f"{broken:,} NaN or infinite and not drawn")
    if finite.any():
        parts.append(f"mean {weights[finite].mean():.3g}")
        parts.append(f"standard deviation {weights[finite].std():.3g}")
    return ", ".join(parts) + "."


def _note(facts: cache.Facts, name: str, structure: Structure) -> str:
    layer, uses = facts.layers[name], facts.uses[name]
    notes = [layer.note] if layer.note else []
    if not uses:
        notes.append("never used in the forward pass")
    elif uses > 1:
        notes.append(f"used {uses} times")
    if reason := structure.of(layer).fits(layer.shape, layer.groups):
        notes.append(f"{STRUCTURES.label(structure)}: {reason}")
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
