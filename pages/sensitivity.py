"""How sparse can each layer be? Choose, look before running, run, read the answer."""

import streamlit as st

from app import cache, live
from app.sensitivity_view import choose_sweep, draw_answer, draw_results, dry_look
from app.state import frame
from sparsity_core.errors import SparsityError

st.title("Sensitivity")
st.caption(
    "Prune one layer at a time, the others stay dense, and measure what each sparsity costs. "
    "Nothing is trained here."
)
chosen = frame()
cache.task(chosen.model)
try:
    plan = choose_sweep(chosen)
    store = cache.store()
    dry_look(plan, chosen)
    stored = store.statuses([point.id for point in plan.points()])
    new = sum(stored.get(point.id, "failed") == "failed" for point in plan.points())
    live.start_button(plan, new, live.label_of(plan, new, store))

    def results() -> None:
        """Everything that grows while the sweep runs."""
        rows = store.rows(plan)
        draw_results(plan, rows)
        draw_answer(plan, rows)

    live.follow(plan, results)
except SparsityError as error:
    st.error(str(error))
