"""How sparse can each layer be? Choose, look before running, run, read the answer."""

import streamlit as st

from app import cache, live
from app.early_view import current_rows, shown_plans
from app.finished import draw_finished
from app.other_results import draw_other
from app.sensitivity_view import draw_answer, draw_results, warn_of_card
from app.state import frame
from app.sweep_form import choose_sweep, dry_look, start_label
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
    dry_look(plan)
    cache.queue().prepare(plan)
    live.start_button(plan, *start_label(plan, store))

    def results() -> None:
        """Everything that grows while the sweep runs."""
        rows = current_rows(plan, store)
        if rows:
            warn_of_card(plan, rows)
            draw_results(plan, rows)
            draw_answer(plan, rows)
        elif shipped := cache.entry(plan.model).sensitivity():
            draw_finished(shipped, draw_results)
        else:
            st.info("No point of this sweep is stored yet. Run it: the results appear here.")

    live.follow(live.to_follow(shown_plans(plan)), results)
    draw_other(plan, store.rows(plan))
except SparsityError as error:
    st.error(str(error))
