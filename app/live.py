"""A job on screen: how far it is, how long it will take, and a button to stop it."""

import time
from collections.abc import Callable, Sequence

import streamlit as st

from app import cache, uploads
from app.fragment import redraw
from sparsity_core.errors import SparsityError
from sparsity_core.jobs import JobView
from sparsity_core.plans import Plan

_EVERY, _SELDOM = 1.0, 5.0  # seconds between two looks, at least and at most
_SHARE = 0.1  # of the time that drawing may take here; the browser takes as much again


def view_of(plan: Plan) -> JobView | None:
    """Where this server's job for a plan stands; None when it has none."""
    job = cache.queue().get(plan.digest)
    return job.view if job else None


def to_follow(plans: Sequence[Plan]) -> Plan:
    """The plan whose job is shown: one that runs, else one that was stopped, else the first."""
    seen = [(plan, view) for plan in plans if (view := view_of(plan))]
    stopped = [plan for plan, view in seen if view.state in ("failed", "cancelled")]
    return next(iter([*(plan for plan, view in seen if view.active), *stopped, *plans]))


def follow(plan: Plan, draw: Callable[[], None]) -> None:
    """Draw a job's progress and, below it, `draw`; both again every few seconds while it runs.

    Every second at first, less often when drawing takes long: it takes that from the job. The one
    fragment of the page that polls. When the job ends the whole page is drawn once more.
    """
    active = _active()
    key = f"seconds between looks {plan.digest}"
    every = st.session_state.get(key, _EVERY)

    def look() -> bool:
        started = time.thread_time()
        now = view_of(plan)
        if now is not None:
            _show(now)
        for other in _active() - {plan.digest}:
            _mention(other)
        draw()
        if active != _active():  # the buttons above change, and polling may end
            return True
        wanted = min((time.thread_time() - started) / _SHARE, _SELDOM)
        if wanted < 1.5 * every:
            return False
        st.session_state[key] = wanted
        return bool(active)

    redraw(look, every if active else None)


def _active() -> set[str]:
    """The jobs of this server that will still change."""
    return {job.id for job in cache.queue().jobs() if job.view.active}


def _mention(job_id: str) -> None:
    """A line about a job of another view, from another tab or before a reload."""
    job = cache.queue().get(job_id)
    if job is not None:
        view = job.view
        title = uploads.in_words(view.title)
        st.caption(f"Also {view.state}: {title}; {view.done} of {view.total} points. See Runs.")


def start_button(
    plan: Plan, new: int, label: str, key: str = "start", also: Sequence[Plan] = ()
) -> None:
    """The button that submits a plan, and others; only such a button starts a job on a page."""
    plans = [plan, *also]
    if refused := st.session_state.pop(f"refused {key}", ""):
        st.error(refused)
    if any(view is not None and view.active for view in map(view_of, plans)):
        return
    st.button(
        label, type="primary", disabled=not new, key=key, icon=":material/play_arrow:",
        on_click=_submit, args=[plans, key],
    )  # fmt: skip


def words_to_start(verb: str, new: int, stored: int, about: str = "") -> str:
    """The words of a start button: what is new, what is stored, how long the new takes."""
    if not new:
        return "The point is stored" if stored == 1 else f"All {stored} points are stored"
    points = "1 new point" if new == 1 else f"{new} new points"
    return f"{verb} {points} ({stored} stored, {about})"


def _submit(plans: Sequence[Plan], key: str) -> None:
    """Before the page is drawn: nothing on it can lose the click."""
    try:
        for each in plans:
            cache.queue().submit(each, retry_failed=True, work=cache.work(each))
    except SparsityError as error:
        st.session_state[f"refused {key}"] = str(error)


def _show(view: JobView) -> None:
    share = view.done / view.total if view.total else 1.0
    text = f"{view.state}: {view.done} of {view.total} points{_seen(view.id)}"
    if view.failed:
        text += f", {view.failed} failed"
    if view.eta is not None:
        text += f", {time_left(view)}"
    if view.active:
        warn_unsaved(view.unsaved)
        bar, button = st.columns([5, 1], vertical_alignment="center")
        bar.progress(share, text)
        if button.button("Cancel", key=f"cancel {view.id}"):
            job = cache.queue().get(view.id)
            if job:
                job.cancel()
    elif view.state in ("failed", "cancelled"):
        show = st.error if view.state == "failed" else st.warning
        message = uploads.in_words(view.message)
        show(f"{text}. {message} Start again to run only what is missing.".replace("  ", " "))


def warn_unsaved(why: str) -> None:
    """Say that work under way is not being saved, and what to do; nothing without a reason."""
    if why:
        st.warning(f"Progress is not being saved: {why}.")


def _seen(job_id: str) -> str:
    """How far the points of early answers are that are not settled."""
    job = cache.queue().get(job_id)
    seen = [row.samples or 0 for row in job.under_way] if job else []
    if not seen:
        return ""
    low, high = f"{min(seen):,}", f"{max(seen):,}"
    return f" settled, others have seen {low if low == high else f'{low} to {high}'} samples"


def time_left(view: JobView) -> str:
    """The time left in words; view.eta is known."""
    assert view.eta is not None
    return f"{'at most ' if view.at_most else ''}about {duration(view.eta)} left"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
