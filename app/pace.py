"""How long networks will take to train on this machine, before any is: tried, and kept."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import streamlit as st

from app import cache
from app.cache import PATIENCE
from app.fragment import redraw
from app.live import duration
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.pace import Pace, pace_of
from sparsity_core.recipe import Training
from sparsity_core.task import Task
from sparsity_core.tickets.plan import TicketPlan


def draw_time(
    plan: TicketPlan | MovingPlan, size: str, new: int, seconds: float | None, more: str = ""
) -> None:
    """What there is to train, and about how long that takes here.

    `seconds`: of the new networks together as those before took; None: a few steps are tried.
    `more`: what such a trial does not see.
    """
    if not new:
        st.markdown(f"**{size}.**")
    elif seconds is not None:
        _say(size, seconds, new, "as those before took")
    else:
        _draw_trial(plan, size, new, more)


def pace(model: str, training: Training, device: str) -> "Future[Pace]":
    """A few steps of such a training; when they take long the future is not done yet."""
    task = cache.task(model)
    key = f"{task.model_digest} {device} {training.optimizer} {training.batch_size}"
    future = _trial(key, task, training, device)
    with suppress(TimeoutError):  # the page looks again
        future.exception(timeout=PATIENCE)
    return future


def _draw_trial(plan: TicketPlan | MovingPlan, size: str, new: int, more: str) -> None:
    future = pace(plan.model, plan.training, plan.device)

    def look() -> None:
        if not future.done():
            st.markdown(f"**{size}**; timing a few steps on this machine ...")
            return
        seconds = new * future.result().seconds(plan.steps, plan.every)
        _say(size, seconds, new, f"by a few steps tried here just now{more}")

    redraw(look, None if future.done() else 0.5)


def _say(size: str, seconds: float, new: int, how: str) -> None:
    several = f" for {new} one after another" if new > 1 else ""
    st.markdown(f"**{size}**, about **{duration(seconds)}**{several}, {how}.")


@st.cache_resource(show_spinner=False, max_entries=32)
def _trial(key: str, _task: Task, _training: Training, _device: str) -> "Future[Pace]":  # noqa: ARG001
    return _timers().submit(pace_of, _task, _training, _device)


@st.cache_resource(show_spinner=False)
def _timers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="sparsity-pace")
