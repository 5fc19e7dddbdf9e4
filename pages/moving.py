"""Train sparse from the start while the mask moves: rules over each other, and the film."""

import streamlit as st

from app import cache, live
from app.finished import say_finished
from app.moving_cost import draw_cost, start_label
from app.moving_film import draw_film
from app.moving_form import choose_moving
from app.moving_source import Experiment, example, stored
from app.moving_view import draw_moving
from app.moving_words import STORY
from app.only_shares import stop_unless_share
from app.state import frame
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.errors import SparsityError

st.title("Moving masks")
st.caption(
    "Train a sparse network from the very start: weights die, others are born in their place. Does "
    "it come as far as the dense one, for a fraction of the multiply-adds?"
)
with st.expander("The idea", icon=":material/school:"):
    st.markdown(STORY)
chosen = frame()
cache.task(chosen.model)


def draw(shown: Experiment) -> None:
    if shown.command:
        say_finished(shown.command)
    draw_moving(shown)


def draw_example() -> None:
    if shipped := example():
        draw(shipped)


def measured(plan: MovingPlan) -> Experiment:
    """What is stored of a plan; the example until a point is."""
    found = stored(plan)
    return found if found.rows else example() or found


def filmed(plan: MovingPlan) -> Experiment:
    """The same, save that a run's own film begins before its first point."""
    view = live.view_of(plan)
    return stored(plan) if view is not None and view.active else measured(plan)


try:
    stop_unless_share(chosen.model, "sparsity train", draw_example)
    plan = choose_moving(chosen)
    rows = cache.store().rows(plan)
    draw_cost(plan, rows)
    live.start_button(plan, *start_label(plan, rows))
    live.follow(plan, lambda: draw(measured(plan)))
    # Beside the fragment that polls: a film that plays has a clock of its own.
    st.subheader("The film")
    view = live.view_of(plan)
    draw_film(lambda: filmed(plan), growing=view is not None and view.active)
except SparsityError as error:
    st.error(str(error))
