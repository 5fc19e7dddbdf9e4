"""Early answers on screen: what is settled and after how many samples; the rest on demand."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import streamlit as st

from app import cache
from sparsity_core.errors import SparsityError
from sparsity_core.status import OPEN
from sparsity_core.store import Store
from sparsity_core.sweep.asked import stopped
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.sweep.point import Result

_REST = "Only the samples that a point has not seen are measured; then its number is exact."


def in_full(plan: SweepPlan, layer: str | None = None) -> SweepPlan:
    """The same points on every sample, of all layers or of one; they share their rows.

    By the same engine, so that the samples that were seen need not be measured again.
    """
    return replace(plan.whole, layers=(layer,)) if layer else plan.whole


def shown_plans(plan: SweepPlan) -> list[SweepPlan]:
    """The plans whose jobs belong to the page of this one."""
    if plan.question is None:
        return [plan]
    return [plan, in_full(plan), *(in_full(plan, layer) for layer in plan.layers)]


def current_rows(plan: SweepPlan, store: Store) -> list[Result]:
    """A plan's rows as far as they are known: exact ones, settled ones, then those under way."""
    rows: list[Result] = store.rows(plan)
    if plan.question is None:
        return rows
    job = cache.queue().get(plan.digest)
    known = {_key(row): row for row in (job.under_way if job and job.view.active else ())}
    known |= {_key(row): row for row in rows}
    exact = store.rows(in_full(plan))
    known |= {_key(row): row for row in exact if row.status != "failed"}
    layers = {name: i for i, name in enumerate(plan.layers)}
    return sorted(known.values(), key=lambda row: (row.seed, layers[row.layer], row.sparsity))


def draw_early(plan: SweepPlan, rows: Sequence[Result], layer: str) -> None:
    """How many points are settled, at which error rate; a click measures the others in full."""
    assert plan.question
    asked = str(plan.question)
    st.markdown(f"**{asked[0].upper()}{asked[1:]}** {_state(plan, rows)}")
    early = [row for row in rows if stopped(row) and row.status != OPEN]
    if not early or any(_under_way(other) for other in shown_plans(plan)):
        return
    own = sum(row.layer == layer for row in early)
    left, right = st.columns(2)
    if own and left.button(
        f"Measure {own} stopped of {layer} on every sample", key="complete layer",
        icon=":material/done_all:", width="stretch", help=_REST,
    ):  # fmt: skip
        _submit(in_full(plan, layer))
    if right.button(
        f"Measure all {len(early)} stopped points on every sample", key="complete all",
        icon=":material/done_all:", width="stretch", help=_REST,
    ):  # fmt: skip
        _submit(in_full(plan))


def _state(plan: SweepPlan, rows: Sequence[Result]) -> str:
    """In plain words: what is settled, after how many samples, at which error rate."""
    assert plan.question
    of = f"{plan.setting.samples:,}"
    seen = [row.samples or 0 for row in rows if stopped(row) and row.status != OPEN]
    waiting = [row.samples or 0 for row in rows if row.status == OPEN]
    exact = sum(row.samples == plan.setting.samples for row in rows if row.status != OPEN)
    words = []
    if seen:
        words.append(
            f"{_points(len(seen))} settled after {_range(seen)} of {of} samples "
            f"(median {median(seen):,.0f})"
        )
    if exact:
        words.append(f"{exact} exact, on all {of}")
    if waiting:
        words.append(f"{len(waiting)} still open after {_range(waiting)}")
    risk = f"the error rate of the whole sweep is at most {100 * plan.question.error:g} %"
    return f"{', '.join(words) or 'nothing seen yet'}; {risk}."


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _under_way(plan: SweepPlan) -> bool:
    job = cache.queue().get(plan.digest)
    return job is not None and job.view.active


def _submit(plan: SweepPlan) -> None:
    try:
        cache.queue().submit(plan, retry_failed=True, work=cache.work(plan))
    except SparsityError as error:
        st.error(str(error))
        return
    st.rerun()  # the whole page: it follows this job now


def _key(row: Result) -> tuple[Any, ...]:
    return row.layer, row.scorer, row.structure, row.sparsity, row.seed
