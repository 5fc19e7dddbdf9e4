"""What was computed: search, open, compare, take along, resume; delete on purpose only."""

import streamlit as st

from app import cache
from app.export_list import draw_exports
from app.run_compare import draw_two
from app.run_list import choose_runs, draw_running
from app.run_view import DELETED, draw_delete, draw_run
from sparsity_core.errors import SparsityError

st.title("Runs")
try:
    store = cache.store()
    st.caption(f"Everything that was measured or exported with the store `{store.path}`.")
    if said := st.session_state.pop(DELETED, None):
        st.success(said)
    draw_running()
    draw_exports()
    runs = store.runs()
    if not runs:
        st.info(
            "Nothing was computed yet. Start a sweep on the Sensitivity page, compare recipes on "
            "the Trade-off page, or look for tickets; what they measure stays here."
        )
        st.stop()
    opened = choose_runs(runs)
    if len(opened) == 2:
        draw_two(store, opened)
    elif opened:
        draw_run(store, opened[0])
        draw_delete(store, opened[0])
except SparsityError as error:
    st.error(str(error))
