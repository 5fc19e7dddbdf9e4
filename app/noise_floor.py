"""What flips between dense networks that differ by their seed alone: shipped, or trained here."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app import cache
from sparsity_core.behaviour import Flips
from sparsity_core.errors import SparsityError
from sparsity_core.plans import row_from_dict
from sparsity_core.setting import Setting, evaluation_samples
from sparsity_core.tickets.behaviour import noise_floor
from sparsity_core.tickets.plan import TicketPlan
from sparsity_core.tickets.row import TicketResult


@dataclass(frozen=True)
class Floor:
    """Pairs of dense networks, and whose they are."""

    pairs: Sequence[Flips] = ()
    source: str = ""  # in words, with the samples


def floor_of(model: str) -> Floor:
    """The shipped one of a model; else that with the most pairs of the ticket runs stored here."""
    if shipped := _shipped(model):
        return shipped
    runs = [
        run for run in cache.store().runs() if (run.kind, run.model) == (TicketPlan.kind, model)
    ]
    found = [_stored(model, cache.task(model).model_digest, run.id, run.done) for run in runs]
    return max(found, key=lambda floor: len(floor.pairs), default=Floor())


@st.cache_data(show_spinner=False, max_entries=8)
def _shipped(model: str) -> Floor | None:
    found = cache.entry(model).tickets() if model in cache.models() else None
    if not found:
        return None
    try:
        rows = [row_from_dict(TicketPlan.kind, row) for row in found["rows"]]
        setting = TicketPlan.from_dict(found["plan"]).setting
    except (KeyError, TypeError) as error:
        raise SparsityError(f"the shipped ticket experiment cannot be read ({error!r})") from error
    return _floor(model, rows, setting, "the shipped ticket experiment")  # type: ignore[arg-type]


@st.cache_data(show_spinner=False, max_entries=32)
def _stored(model: str, model_digest: str, run: str, done: int) -> Floor:  # noqa: ARG001 - the key
    plan: TicketPlan = cache.store().plan(run)
    try:
        plan.check(cache.task(model))
    except SparsityError:
        return Floor()  # of other data or first weights
    name = f"the ticket run {run[:8]}"
    return _floor(model, cache.store().rows(plan), plan.setting, name)


def _floor(model: str, rows: Sequence[TicketResult], setting: Setting, name: str) -> Floor:
    targets = evaluation_samples(cache.task(model), setting).targets.reshape(-1).cpu()
    pairs = [flips for *_, flips in noise_floor(rows, targets)]
    return Floor(pairs, f"{name} ({setting.samples:,} {setting.split} samples)")
