"""A job on screen: how far it is, how long it will take, and a button to stop it."""

from collections.abc import Callable
from statistics import median

import streamlit as st

from app import cache
from sparsity_core.errors import SparsityError
from sparsity_core.jobs import JobView
from sparsity_core.plans import Plan
from sparsity_core.store import Store

_EVERY = 1.0  # seconds between two looks


def view_of(plan: Plan) -> JobView | None:
    """Where this server's job for a plan stands; None when it has none."""
    job = cache.queue().get(plan.digest)
    return job.view if job else None


def follow(plan: Plan, draw: Callable[[], None]) -> None:
    """Draw a job's progress and, below it, `draw`; both again every second while it runs.

    The one fragment of the page that polls. When the job ends the whole page is drawn once more.
    """
    active = (view := view_of(plan)) is not None and view.active

    @st.fragment(run_every=_EVERY if active else None)
    def polled() -> None:
        now = view_of(plan)
        if now is not None:
            _show(now)
        draw()
        if active and now is not None and not now.active:
            st.rerun()

    polled()


def start_button(plan: Plan, new: int, label: str) -> None:
    """The button that submits a plan; the only thing on a page that starts computing."""
    view = view_of(plan)
    if view is not None and view.active:
        return
    if st.button(
        label, type="primary", disabled=not new, key="start", icon=":material/play_arrow:"
    ):
        try:
            cache.queue().submit(plan, retry_failed=True)
        except SparsityError as error:
            st.error(str(error))
            return
        st.rerun()


def label_of(plan: Plan, new: int, store: Store) -> str:
    """What the start button says: how many points are new, how many stored, about how long."""
    total = len(plan.points())
    if not new:
        return f"All {total} points are stored"
    known = [row.seconds for row in store.rows(plan) if row.value is not None]
    about = f", about {duration(new * median(known))}" if known else ""
    return f"Run {new} new points ({total - new} stored{about})"


def _show(view: JobView) -> None:
    share = view.done / view.total if view.total else 1.0
    text = f"{view.state}: {view.done} of {view.total} points"
    if view.failed:
        text += f", {view.failed} failed"
    if view.eta is not None:
        text += f", about {duration(view.eta)} left"
    if view.active:
        bar, button = st.columns([5, 1], vertical_alignment="center")
        bar.progress(share, text)
        if button.button("Cancel", key=f"cancel {view.id}"):
            job = cache.queue().get(view.id)
            if job:
                job.cancel()
    elif view.state in ("failed", "cancelled"):
        show = st.error if view.state == "failed" else st.warning
        show(f"{text}. {view.message} Start again to run only what is missing.".replace("  ", " "))


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
