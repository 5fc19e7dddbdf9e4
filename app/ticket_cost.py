"""How long an experiment will take, before it is started."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from statistics import median

import streamlit as st

from app import cache
from app.live import duration
from sparsity_core.tickets.estimate import Pace, pace_of, size_of
from sparsity_core.tickets.plan import TicketPlan
from sparsity_core.tickets.row import TicketResult

_ENOUGH = 3  # trainings of the plan whose time tells more than a trial
_PATIENCE = 0.8  # seconds that the script waits for a trial


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
        st.markdown(f"**{size_of(plan)}**, about **{about}** for {new}, as those before took.")
    else:
        _draw_trial(plan, new)


def _draw_trial(plan: TicketPlan, new: int) -> None:
    future = _trial(_key(plan), plan)

    @st.fragment(run_every=None if future.done() else 0.5)
    def polled() -> None:
        if not future.done():
            st.markdown(f"**{size_of(plan)}**; timing a few steps on this machine ...")
            return
        about = duration(new * future.result().of_training(plan))
        st.markdown(
            f"**{size_of(plan)}**, about **{about}** for {new}, by a few steps tried here just now."
        )

    polled()


def _key(plan: TicketPlan) -> str:
    """What a step's time depends on."""
    training = plan.training
    return f"{plan.setting.model_digest} {plan.device} {training.optimizer} {training.batch_size}"


@st.cache_resource(show_spinner=False, max_entries=32)
def _trial(key: str, _plan: TicketPlan) -> "Future[Pace]":  # noqa: ARG001 - the key
    future = _timers().submit(pace_of, cache.task(_plan.model), _plan)
    with suppress(TimeoutError):  # the page looks again
        future.exception(timeout=_PATIENCE)
    return future


@st.cache_resource(show_spinner=False)
def _timers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="sparsity-pace")
