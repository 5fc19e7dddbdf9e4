"""Which weights does a recipe keep? Every layer's mask, down to single weights; two recipes."""

import streamlit as st

from app import cache, mask_panels
from app.chosen_layer import pick_layer
from app.curve_names import label
from app.known_sweeps import with_curves
from app.mask_form import (
    COMPARED,
    FILTERS,
    LINES,
    choose_recipes,
    choose_view,
)
from app.mask_source import masked
from app.mask_words import masks_python
from app.state import frame
from app.storage_view import draw_storage
from sparsity_core.errors import SparsityError

st.title("Masks")
chosen = frame()
cache.task(chosen.model)
try:
    recipe = with_curves(chosen.recipe, chosen.model)
    st.caption(
        f"What the sidebar's recipe keeps, A: **{label(recipe)}** at {recipe.sparsity:.0%}. "
        "Nothing is trained here."
    )
    seed, other = choose_recipes(chosen.model, recipe)
    a = masked(chosen.model, chosen.device, recipe, seed)
    b = masked(chosen.model, chosen.device, other.recipe, other.seed) if other else None
    table = mask_panels.layer_table(a)
    st.dataframe(
        table.style.format(precision=1, thousands=","), hide_index=True, placeholder="dense"
    )
    draw_storage(chosen.model, a.pruning)
    layer = pick_layer(list(a.layers))
    if a.mask(layer) is None:
        st.info(f"{layer} stays dense: {a.pruning.skipped[layer]}")
        st.stop()
    if layer in a.pruning.emptied:
        st.warning(f"{layer} has no weight left: the model has probably collapsed.")
    view = choose_view(len(a.layers[layer].shape) > 2, other is not None)
    python = masks_python(chosen.model, [a, b] if b else [a], layer)
    if view == COMPARED and b:
        mask_panels.draw_comparison(a, b, layer, python)
    elif view == LINES:
        mask_panels.draw_lines(a, layer, python)
    else:
        by_value = st.checkbox("Colour by weight", key="mask-colour", bind="query-params")
        draw = mask_panels.draw_filters if view == FILTERS else mask_panels.draw_weights
        draw(a, layer, by_value, python)
except SparsityError as error:
    st.error(str(error))
