"""The list of runs with its search, and the jobs that are under way."""

from collections.abc import Sequence

import streamlit as st

from app import cache, uploads
from app.fragment import redraw
from app.live import time_left, warn_unsaved
from app.run_table import found, table_of
from sparsity_core.store import RunInfo

_OPEN = "run"  # the ids of the opened runs, in the URL too
# Pixels: the widths that Streamlit chooses leave too little for what a run is.
_WHAT, _NARROW = 395, {"state": 80, "stored": 95, "ok": 50}
_MORE = ("skipped", "collapsed", "nan", "failed")


def choose_runs(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """The list of runs with its search, and those that are opened: one to read, two to compare."""
    linked = set() if _OPEN in st.session_state else set(st.query_params.get_all(_OPEN))
    if unknown := linked - {run.id[:8] for run in runs}:
        st.warning(f"The link opens run {', '.join(unknown)}, which this store does not have.")
    words = st.text_input(
        "Search", key="runs-search", bind="query-params", placeholder="model, scorer, state, date"
    )
    shown = found(runs, words)
    table = table_of(shown)
    empty = [status for status in _MORE if not table[status].any()]
    ids = [run.id for run in shown]
    st.dataframe(
        table.drop(columns=empty),
        hide_index=True,
        on_select=lambda: _open_rows(ids),
        selection_mode="multi-row",
        # Another list has other rows at the same places, so it must not inherit a selection.
        key=_table_key(ids),
        column_config={
            "what": st.column_config.TextColumn(width=_WHAT),
            **{name: st.column_config.Column(width=wide) for name, wide in _NARROW.items()},
        },
    )
    st.caption(f"{len(shown)} of {len(runs)} runs. Tick one to open it, two to compare them.")
    return _opened(runs)


def _opened(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """The opened runs, from the list, the ticks above or a link, and back into the link."""
    by_id = {run.id: run for run in runs}
    linked = [i for i in by_id if i[:8] in st.query_params.get_all(_OPEN)]
    before = st.session_state.get(_OPEN, linked)
    # What was deleted since is gone from the list.
    st.session_state[_OPEN] = [i for i in before if i in by_id]
    opened = st.multiselect(
        "Opened", list(by_id), key=_OPEN, max_selections=2, persist_state="session",
        format_func=lambda i: _short(by_id[i]), placeholder="none",
    )  # fmt: skip
    st.query_params[_OPEN] = [i[:8] for i in opened]
    return [by_id[i] for i in opened]


def _short(run: RunInfo) -> str:
    """What fits into the box; the title stands in the list and below."""
    return f"{run.id[:8]} · {uploads.in_words(run.model)} {run.kind}".replace("  ", " ")


def draw_running() -> None:
    """The jobs of this server that are under way, with their progress; polls while there are."""
    active = _active()

    def look() -> bool:
        for job in cache.queue().jobs():
            view = job.view
            if view.active:
                warn_unsaved(view.unsaved)
                left, right = st.columns([5, 1], vertical_alignment="center")
                eta = "" if view.eta is None else f", {time_left(view)}"
                share = view.done / view.total if view.total else 1.0
                text = f"{view.state}: {view.done} of {view.total} points{eta}; "
                left.progress(share, text + uploads.in_words(view.title))
                right.button("Cancel", key=f"cancel {view.id}", on_click=job.cancel)
        return _active() != active

    redraw(look, 1.0 if active else None)


def _active() -> set[str]:
    return {job.id for job in cache.queue().jobs() if job.view.active}


def _table_key(ids: Sequence[str]) -> str:
    return f"runs {hash(tuple(ids))}"


def _open_rows(ids: Sequence[str]) -> None:
    """The ticked rows become the opened runs, two at most."""
    rows = st.session_state[_table_key(ids)]["selection"]["rows"]
    st.session_state[_OPEN] = [ids[row] for row in rows][:2]
