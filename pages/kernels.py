"""How fast is a sparse layer, or a whole model, on this machine? Timed here, never guessed."""

import streamlit as st

from app import cache, kernel_source, live
from app.forms import warn_of_unknown
from app.kernel_form import MODEL, ONE, VIEWS, choose_kernels, choose_latency, choose_map
from app.kernel_map import draw_map
from app.kernel_view import draw_layer
from app.latency_view import draw_model
from app.state import frame
from sparsity_core.errors import SparsityError

st.title("Kernels")
st.caption(
    "Zeros are not a speed: which format beats dense on your machine, at which sparsity and batch, "
    "by how much, and how far from what the machine can do."
)
chosen = frame()
cache.task(chosen.model)
warn_of_unknown("kernels-view", VIEWS)
view = st.segmented_control(
    "View", VIEWS, default=ONE, required=True, key="kernels-view",
    bind="query-params", label_visibility="collapsed",
)  # fmt: skip
try:
    if view == ONE:
        plan = choose_kernels(chosen)
        live.start_button(plan, *kernel_source.start_label(plan))
        live.follow(plan, lambda: draw_layer(plan, kernel_source.of_layer(plan)))
    elif view == MODEL:
        latency = choose_latency(chosen)
        live.start_button(latency, *kernel_source.start_label(latency, 15))
        live.follow(latency, lambda: draw_model(latency, kernel_source.of_model(latency)))
    else:
        grid = choose_map()
        live.start_button(grid, *kernel_source.start_label(grid))
        live.follow(grid, lambda: draw_map(grid, kernel_source.of_map(grid)))
except SparsityError as error:
    st.error(str(error))
