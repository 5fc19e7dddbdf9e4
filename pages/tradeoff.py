"""What does a whole-model recipe cost, at every sparsity? Several recipes over each other."""

from collections.abc import Sequence

import streamlit as st

from app import cache, live
from app.curve_form import choose_curve
from app.finished import draw_finished
from app.state import frame
from app.tradeoff_view import draw_curves, draw_plan, start_label
from app.tuning_view import draw_tuning
from sparsity_core.curve import CurvePlan
from sparsity_core.curve_row import CurveResult
from sparsity_core.errors import SparsityError

st.title("Trade-off")
st.caption(
    "Prune all layers together by a recipe, at several sparsities, as pruned and after "
    "fine-tuning; lay recipes over each other."
)
chosen = frame()
cache.task(chosen.model)


def draw(plan: CurvePlan, rows: Sequence[CurveResult]) -> None:
    if rows:
        draw_curves(plan, rows)
    elif shipped := cache.entry(plan.model).curve():
        draw_finished(shipped, draw_curves)
    else:
        st.info("No point of this comparison is stored yet. Run it: the curves appear here.")


try:
    plan = choose_curve(chosen)
    store = cache.store()
    draw_plan(plan)
    live.start_button(plan, *start_label(plan, store.rows(plan)))
    live.follow(plan, lambda: draw(plan, store.rows(plan)))
    draw_tuning(chosen, plan)
except SparsityError as error:
    st.error(str(error))
