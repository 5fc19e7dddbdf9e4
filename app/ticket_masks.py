"""The masks of tickets: one layer round by round, and what masks of different seeds share."""

from collections.abc import Mapping
from itertools import permutations

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
import torch

from app import export, mask_charts
from app.chosen_layer import pick_layer
from app.mask_charts import PLACE, centre, height, window_cells
from app.mask_form import choose_window
from app.mask_view import MOST, matrix_of, pool, window
from app.theme import GREY, PALETTE, AnyChart, colours, dashes, shapes
from app.ticket_source import Experiment
from app.ticket_words import masks_python
from sparsity_core.tickets.lifetimes import Lifetimes, masks_in
from sparsity_core.tickets.overlap import overlap

_STATES = {  # of a weight after a round -> colour, shape
    "stays": (PALETTE[0], "square"),
    "goes next": (PALETTE[1], "triangle-down"),
}
_ABSENT = (
    "The masks are not in this store's `checkpoints` folder (the rows alone are): training the "
    "same plan again makes them."
)


def draw_masks(experiment: Experiment) -> None:
    """The ticket's mask in one layer, scrubbed through the rounds."""
    plan = experiment.plan
    left, right = st.columns(2)
    seed = int(left.selectbox("Seed", plan.seeds, key=f"masks seed {plan.seeds}"))
    rewind = int(right.selectbox("Rewound to", plan.rewinds, key=f"masks rewind {plan.rewinds}"))
    lives = experiment.lifetimes(seed, rewind)
    if not lives:
        st.info(f"No round of seed {seed} is done yet." if _none_done(experiment) else _ABSENT)
        return
    last = max(int(lived.max()) for lived in lives.values())
    number = st.slider("Round", 0, last, min(last, 3), key=f"masks round {last}")
    st.dataframe(
        _table(lives, number).style.format(precision=1, thousands=","),
        hide_index=True,
        placeholder="",
    )
    layer = pick_layer(list(lives))
    _draw_layer(lives[layer].numpy(), layer, number, last, masks_python(plan, seed, rewind))


def _draw_layer(lived: np.ndarray, layer: str, number: int, last: int, python: str) -> None:
    shape = lived.shape
    matrix = _matrix(lived)
    kept = matrix >= number
    if max(matrix.shape) > MOST:
        pooled = pool(kept, (1, 1))
        table = pd.DataFrame(pooled.shares).stack().rename("share").reset_index()
        export.show(
            mask_charts.shares(pooled, shape), table, f"ticket-mask-{layer}-{number}",
            python=python, key="ticket overview",
        )  # fmt: skip
        st.caption(f"{matrix.shape[0]} x {matrix.shape[1]} weights; {pooled.caption}.")
    top, left = choose_window(matrix.shape, MOST)
    rows, cols = window(matrix.shape[0], top), window(matrix.shape[1], left)
    cells = window_cells(rows, cols, shape)
    cells["lives"] = matrix[rows, cols].reshape(-1)
    cells["weight"] = np.select(
        [cells["lives"] > number, cells["lives"] == number], list(_STATES), "gone"
    )
    if number == last:
        cells.loc[cells["weight"] == "goes next", "weight"] = "stays"
    export.show(
        _weights(cells, rows, cols, shape), cells, f"ticket-weights-{layer}-{number}",
        python=python, key="ticket weights",
    )  # fmt: skip
    st.caption(
        f"{layer} in round {number} of {last}: square = stays, triangle = goes after this round, "
        "dot = gone. Move the round to see the mask come about; masks are nested."
    )


def _weights(cells: pd.DataFrame, rows: slice, cols: slice, shape: tuple[int, ...]) -> AnyChart:
    size = max(8.0, min(140.0, 90_000 / max(1, len(cells))))
    places = centre(rows, cols, shape)
    alive = (
        alt.Chart(cells[cells["weight"] != "gone"])
        .mark_point(filled=True, size=size, opacity=1)
        .encode(
            **places,
            color=alt.Color(
                "weight:N", legend=alt.Legend(orient="top", title=None),
                scale=alt.Scale(domain=list(_STATES), range=[c for c, _ in _STATES.values()]),
            ),
            shape=alt.Shape(
                "weight:N", legend=alt.Legend(orient="top", title=None),
                scale=alt.Scale(domain=list(_STATES), range=[s for _, s in _STATES.values()]),
            ),
            tooltip=["weight:N", alt.Tooltip("lives:Q", title="rounds it lives"), *PLACE],
        )
    )  # fmt: skip
    gone = (
        alt.Chart(cells[cells["weight"] == "gone"])
        .mark_point(filled=True, size=5, color=GREY, opacity=0.7)
        .encode(**places, tooltip=[alt.Tooltip("lives:Q", title="rounds it lived"), *PLACE])
    )
    return alt.layer(gone, alive).properties(height=height(rows.stop - rows.start))


def draw_overlap(experiment: Experiment) -> None:
    """What the masks of two seeds have in common, layer by layer, beside chance."""
    plan = experiment.plan
    rewind = int(st.selectbox("Rewound to", plan.rewinds, key=f"overlap {plan.rewinds}"))
    found = {seed: experiment.lifetimes(seed, rewind) for seed in plan.seeds}
    lives = {seed: lifetimes for seed, lifetimes in found.items() if lifetimes}
    if len(lives) < 2:
        st.info("Masks of two seeds are needed: choose more seeds, or wait until two have a round.")
        return
    table = overlap_table(lives)
    export.show(
        overlap_chart(table), table, "ticket-overlap",
        python=masks_python(plan, plan.seeds[0], rewind), key="ticket overlap",
    )  # fmt: skip
    st.caption(
        f"Of the weights that one seed's mask keeps, the share that another's keeps too: means "
        f"over the {len(lives) * (len(lives) - 1)} ordered pairs of {len(lives)} seeds. Dashed: "
        "what a shuffled mask would share. Hidden units have no fixed places, so only weights "
        "whose place means something (such as pixels that never change) can be shared beyond "
        "chance."
    )


def overlap_table(lives: Mapping[int, Lifetimes]) -> pd.DataFrame:
    """By round and layer: the share kept by both over that kept by one, and by chance; per cent."""
    last = min(int(lived.max()) for lifetimes in lives.values() for lived in lifetimes.values())
    lines = []
    for number in range(1, last + 1):
        masks = {seed: masks_in(lifetimes, number) for seed, lifetimes in lives.items()}
        pairs = [overlap(masks[a], masks[b]) for a, b in permutations(masks, 2)]
        for layer in pairs[0]:
            shared = float(np.mean([pair[layer].shared for pair in pairs]))
            chance = float(np.mean([pair[layer].chance for pair in pairs]))
            lines.append((number, layer, 100 * shared, 100 * chance))
    return pd.DataFrame(lines, columns=["round", "layer", "shared", "chance"])


def overlap_chart(table: pd.DataFrame) -> AnyChart:
    """Shared and by chance against the weights that the layer has left."""
    layers = list(dict.fromkeys(table["layer"]))
    x = alt.X(
        "chance:Q",
        title="weights left in the layer (%, log axis), which is what chance would share",
        scale=alt.Scale(type="log", reverse=True, nice=False),
        axis=alt.Axis(values=[100, 50, 20, 10, 5, 2, 1], labelExpr="format(datum.value, '~g')"),
    )  # fmt: skip
    y = alt.Y("shared:Q", title="kept by another seed too (%)", scale=alt.Scale(domain=[0, 100]))
    legend = alt.Legend(orient="bottom", columns=2, title=None)
    colour = alt.Color(
        "layer:N", sort=layers, legend=legend,
        scale=alt.Scale(domain=layers, range=colours(len(layers))),
    )  # fmt: skip
    shape = alt.Shape(
        "layer:N", sort=layers, legend=legend,
        scale=alt.Scale(domain=layers, range=shapes(len(layers))),
    )  # fmt: skip
    dash = alt.StrokeDash(
        "layer:N", legend=None, scale=alt.Scale(domain=layers, range=dashes(len(layers)))
    )
    tooltip = [
        "layer:N", "round:Q", alt.Tooltip("shared:Q", title="shared (%)", format=".1f"),
        alt.Tooltip("chance:Q", title="by chance (%)", format=".1f"),
    ]  # fmt: skip
    base = alt.Chart(table).encode(x, colour)
    chance = (
        alt.Chart(table.sort_values("chance"))
        .mark_line(color=GREY, strokeDash=[2, 3], strokeWidth=2)
        .encode(x, alt.Y("chance:Q", scale=alt.Scale(domain=[0, 100])))
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(y, shape, tooltip=tooltip)
    return alt.layer(chance, base.mark_line().encode(y, dash), points).properties(
        height=320 + 22 * -(-len(layers) // 2)
    )


def _table(lives: Lifetimes, number: int) -> pd.DataFrame:
    masks = masks_in(lives, number)
    left = {name: float(mask.double().mean()) for name, mask in masks.items()}
    return pd.DataFrame(
        {
            "layer": list(masks),
            "weights": [mask.numel() for mask in masks.values()],
            "left": [int(mask.sum()) for mask in masks.values()],
            "left (%)": [100 * share for share in left.values()],
        }
    )


def _matrix(lived: np.ndarray) -> np.ndarray:
    return matrix_of(torch.from_numpy(lived))


def _none_done(experiment: Experiment) -> bool:
    return not any(row.arm == "ticket" and row.round for row in experiment.rows)
