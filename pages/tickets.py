"""Is there a small network in the large one that learns as well from the start? Arms, live."""

import streamlit as st

from app import cache, live
from app.finished import say_finished
from app.only_shares import stop_unless_share
from app.state import frame
from app.ticket_cost import draw_cost, start_label
from app.ticket_form import choose_tickets
from app.ticket_source import example, stored
from app.ticket_view import draw_tickets, draw_under_way
from app.ticket_words import STORY
from sparsity_core.errors import SparsityError
from sparsity_core.tickets.plan import TicketPlan

st.title("Lottery ticket")
st.caption(
    "Train, prune a share, rewind the rest to where it began, train again: does the small network "
    "learn as well as the dense one, and what of it matters, the mask or the weights?"
)
with st.expander("The idea, in four steps", icon=":material/school:"):
    st.markdown(STORY)
chosen = frame()
cache.task(chosen.model)


def draw(plan: TicketPlan) -> None:
    found = stored(plan)
    view = live.view_of(plan)
    if view is not None and view.active:
        draw_under_way(found)
    if found.rows or not draw_example():
        draw_tickets(found)


def draw_example() -> bool:
    """The finished one, where one is installed."""
    shipped = example()
    if shipped is None:
        return False
    say_finished(shipped.command)
    draw_tickets(shipped)
    return True


try:
    stop_unless_share(chosen.model, "sparsity tickets", draw_example)
    plan = choose_tickets(chosen)
    rows = cache.store().rows(plan)
    draw_cost(plan, rows)
    live.start_button(plan, *start_label(plan, rows))
    live.follow(plan, lambda: draw(plan))
except SparsityError as error:
    st.error(str(error))
