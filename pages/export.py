"""Take the result away: pruned and shrunk models as files, with what they are worth."""

import shlex

import streamlit as st

from app import cache
from app.export_form import choose_export
from app.export_job import Order, jobs
from app.export_view import draw_export
from app.finished import say_finished
from app.fragment import redraw
from app.live import duration
from app.state import frame
from sparsity_core.errors import SparsityError

EXAMPLE = "digits-lenet"

st.title("Export")
st.caption(
    "Prune (and fine-tune) the model by the sidebar's recipe, and take it away: sparse checkpoint, "
    "masks, recipe, the model without its idle channels, ONNX, and a card of what was measured."
)
chosen = frame()
cache.task(chosen.model)


def draw(order: Order) -> None:
    state = jobs().state(order)
    if state.running:
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.info(f"Pruning, measuring and writing: {duration(state.seconds)} so far.")
        if right.button("Cancel", key="export-cancel"):
            jobs().cancel(order)
            st.rerun()
        return
    if state.error:
        st.error(state.error)
    command = f"sparsity {shlex.join(order.command)}"
    if state.card:
        draw_export(state.card, order.folder, command)
        return
    if shipped := cache.entry(EXAMPLE).export():
        say_finished(shipped["command"])
        draw_export(shipped["card"], None, shipped["command"])


def follow(order: Order) -> None:
    running = jobs().state(order).running

    def look() -> bool:
        draw(order)
        return running and not jobs().state(order).running

    redraw(look, 1.0 if running else None)


try:
    order = choose_export(chosen)
    now = jobs().state(order)
    if not now.running:
        done = now.card is not None
        label = "These files are written" if done else "Prune and write the files"
        if st.button(label, type="primary", disabled=done, icon=":material/play_arrow:"):
            jobs().begin(order)
            st.rerun()
    follow(order)
except SparsityError as error:
    st.error(str(error))
