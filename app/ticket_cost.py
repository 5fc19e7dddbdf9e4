"""How long an experiment will take, before it is started."""

from collections.abc import Sequence
from statistics import median

import streamlit as st

from app.fragment import redraw
from app.live import duration
from app.pace import pace
from sparsity_core.tickets.estimate import size_of
from sparsity_core.tickets.plan import TicketPlan
from sparsity_core.tickets.row import TicketResult

_ENOUGH = 3  # trainings of the plan whose time tells more than a trial


def start_label(plan: TicketPlan, rows: Sequence[TicketResult]) -> tuple[int, str]:
    """How many trainings are new, and the words of the start button."""
    stored = {row.point_id for row in rows if row.status != "failed"}
    new = sum(point.id not in stored for point in plan.points())
    if not new:
        return 0, f"All {len(stored)} trainings are stored"
    return new, f"Train {new} networks" + (f" ({len(stored)} stored)" if stored else "")


def draw_cost(plan: TicketPlan, rows: Sequence[TicketResult]) -> None:
    """What there is to train, and about how long that takes here."""
    new, _ = start_label(plan, rows)
    known = [row.seconds for row in rows if row.value is not None]
    if not new:
        st.markdown(f"**{size_of(plan)}.**")
    elif len(known) >= _ENOUGH:
        about = duration(new * median(known))
        st.markdown(
            f"**{size_of(plan)}**, about **{about}** for {new} one after another, as those before "
            "took."
        )
    else:
        _draw_trial(plan, new)


def _draw_trial(plan: TicketPlan, new: int) -> None:
    future = pace(plan.model, plan.training, plan.device)

    def look() -> None:
        if not future.done():
            st.markdown(f"**{size_of(plan)}**; timing a few steps on this machine ...")
            return
        about = duration(new * future.result().seconds(plan.steps, plan.every))
        st.markdown(
            f"**{size_of(plan)}**, about **{about}** for {new} one after another, by a few steps "
            "tried here just now."
        )

    redraw(look, None if future.done() else 0.5)
