"""One stored run: its points, what can be done with it, and deleting it on purpose only."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app import cache, uploads
from app.curve_words import curve_command, curve_python
from app.kernel_run import draw_run as draw_kernels
from app.kernel_run import words as kernel_words
from app.moving_source import stored
from app.moving_view import draw_moving
from app.moving_words import moving_command, moving_python
from app.reopen import GOING, PAGES, AnyPlan, reopen, view_of
from app.reproduce import sweep_command, sweep_python
from app.run_table import rows_table
from app.sensitivity_view import draw_results
from app.state import frame
from app.ticket_source import Experiment
from app.ticket_view import draw_tickets
from app.ticket_words import tickets_command, tickets_python
from app.tradeoff_view import draw_curves
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.kernels.latency import LatencyPlan
from sparsity_core.kernels.plan import KernelPlan
from sparsity_core.report.notebook import notebook
from sparsity_core.report.page import page
from sparsity_core.spreadsheet import without_formulas
from sparsity_core.store import RunInfo, Store
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.tickets.plan import TicketPlan

DELETED = "run-deleted"  # what to say in the next run of the script


def draw_run(store: Store, run: RunInfo) -> None:
    """One run: its points as charts and tables, files, words, and what can be done with it."""
    plan = store.plan(run.id)
    rows = store.rows(plan)
    st.subheader(f"Run {run.id[:8]}")
    st.write(uploads.in_words(run.title))
    counts = ", ".join(f"{n} {status}" for status, n in run.statuses.items()) or "none"
    said = uploads.in_words(run.message)
    st.markdown(f"**{run.state}**: {run.done} of {run.total} points stored ({counts}). {said}")
    _draw_actions(run, plan, rows)
    if not rows:
        st.info("No point of this run is stored; resume it.")
    elif isinstance(plan, SweepPlan):
        draw_results(plan, rows)
    elif isinstance(plan, KernelPlan | LatencyPlan):
        draw_kernels(plan, rows)
    elif isinstance(plan, TicketPlan):
        draw_tickets(Experiment(plan, rows))
    elif isinstance(plan, MovingPlan):
        draw_moving(stored(plan))
    else:
        draw_curves(plan, rows)
    if rows:
        with st.expander(f"All {len(rows)} rows, as in the file (shares from 0 to 1)"):
            st.dataframe(rows_table(rows), hide_index=True, placeholder="")


def draw_delete(store: Store, run: RunInfo) -> None:
    """Deleting in two steps: what would go is counted, and the run's name has to be typed."""
    with st.expander("Delete this run", icon=":material/delete:"):
        if run.state in ("queued", "running"):
            st.info("This run is under way; cancel it first.")
            return
        if not st.toggle("I want to delete it", key=f"wish {run.id}"):
            return
        gone = store.points_alone(run.id)
        kept = run.done - gone
        st.warning(
            f"{gone} stored points go for good"
            + (f"; {kept} stay, because other runs have them too." if kept else ".")
        )
        typed = st.text_input(f"Type {run.id[:8]} to confirm", key=f"typed {run.id}")
        if st.button(
            f"Delete {gone} points", type="primary", disabled=typed != run.id[:8],
            key=f"delete {run.id}", icon=":material/delete:",
        ):  # fmt: skip
            went = store.delete_run(run.id)
            st.session_state[DELETED] = f"Run {run.id[:8]} and {went} points are deleted."
            st.rerun()


def _draw_actions(run: RunInfo, plan: AnyPlan, rows: Sequence[Any]) -> None:
    table = rows_table(rows)
    missing = run.total - run.done + run.statuses.get("failed", 0)
    with st.container(horizontal=True):
        if missing and run.state not in ("queued", "running"):
            label = f"Resume {missing} points"
            if st.button(label, key=f"resume {run.id}", icon=":material/play_arrow:"):
                cache.queue().resume(run.id)
                st.rerun()
        _draw_file("CSV", f"{run.id[:8]}.csv", partial(_csv, table), "text/csv")
        _draw_file("JSON", f"{run.id[:8]}.json", partial(_json, table), "application/json")
        _draw_file(
            "Report", f"{run.id[:8]}.html", partial(_report, page, run, plan, rows), "text/html"
        )
        _draw_file(
            "Notebook",
            f"{run.id[:8]}.ipynb",
            partial(_report, notebook, run, plan, rows),
            "application/x-ipynb+json",
        )
        with st.popover("Copy", icon=":material/content_copy:"):
            command, python = _words(plan)
            st.caption("As command")
            st.code(command, "bash", wrap_lines=True)
            st.code(f"sparsity runs {run.id[:8]} --out rows.csv", "bash")
            st.caption("As Python")
            st.code(python, "python", wrap_lines=True)
        _draw_link(plan)


def _draw_file(label: str, name: str, make: Callable[[], bytes], mime: str) -> None:
    st.download_button(
        label, make, name, mime, on_click="ignore", key=f"run {label}", icon=":material/download:"
    )


def _csv(table: pd.DataFrame) -> bytes:
    return without_formulas(table).to_csv(index=False).encode()


def _json(table: pd.DataFrame) -> bytes:
    return str(table.to_json(orient="records", indent=1)).encode()


def _report(form: Callable[..., str], run: RunInfo, plan: AnyPlan, rows: Sequence[Any]) -> bytes:
    return form(run, plan, rows).encode()


def _words(plan: AnyPlan) -> tuple[str, str]:
    if isinstance(plan, SweepPlan):
        return sweep_command(plan), sweep_python(plan)
    if isinstance(plan, KernelPlan | LatencyPlan):
        return kernel_words(plan)
    if isinstance(plan, TicketPlan):
        return tickets_command(plan), tickets_python(plan)
    if isinstance(plan, MovingPlan):
        return moving_command(plan), moving_python(plan)
    return curve_command(plan), curve_python(plan)


def _draw_link(plan: AnyPlan) -> None:
    title, _ = PAGES[plan.kind]
    # Kernels may have been timed on a shape, without a model.
    known = not plan.model or (plan.model in cache.models() and cache.models()[plan.model] is None)
    own = plan.model and frame().model == plan.model
    view = view_of(plan, list(cache.facts(plan.model).layers) if own else []) if known else None
    st.button(
        f"Open in {title}", disabled=view is None, key="reopen", icon=":material/open_in_new:",
        on_click=reopen, args=[plan, view],
        help=None if view else f"The {title} form cannot say all of this run; read it here.",
    )  # fmt: skip
    if going := st.session_state.pop(GOING, None):
        file, link = going
        st.switch_page(file, query_params=link)
