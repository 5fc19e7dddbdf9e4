"""A ticket experiment to be drawn: rows, masks and labels, stored here or shipped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from torch import Tensor

from app import cache
from sparsity_core.errors import SparsityError
from sparsity_core.plans import row_from_dict
from sparsity_core.setting import evaluation_samples
from sparsity_core.tickets.lifetimes import Lifetimes, lifetimes_of, unpacked
from sparsity_core.tickets.plan import TicketPlan
from sparsity_core.tickets.row import TicketResult
from sparsity_core.tickets.trial import saved_end

EXAMPLE = "digits-lenet"  # the model whose finished experiment ships with this version


@dataclass(frozen=True, eq=False)
class Experiment:
    """What the page draws."""

    plan: TicketPlan
    rows: Sequence[TicketResult]
    command: str = ""  # of a shipped one
    shipped: Mapping[str, Any] = field(default_factory=dict)  # seed -> packed lifetimes

    def lifetimes(self, seed: int, rewind: int) -> Lifetimes | None:
        """How many rounds each weight of the ticket lives; None when its files are not here."""
        if str(seed) in self.shipped:
            return unpacked(self.shipped[str(seed)])
        done = [
            row.round
            for row in self.rows
            if (row.arm, row.seed, row.rewind) == ("ticket", seed, rewind) and row.round
        ]
        return _from_files(self.plan.digest, seed, rewind, max(done, default=0), self.plan)

    def targets(self) -> Tensor:
        """The labels of the samples that report, (N,)."""
        setting = self.plan.setting
        return evaluation_samples(cache.task(self.plan.model), setting).targets.reshape(-1).cpu()


@st.cache_data(show_spinner=False, max_entries=12)
def _from_files(
    digest: str,  # noqa: ARG001 - the key
    seed: int,
    rewind: int,
    rounds: int,
    _plan: TicketPlan,
) -> Lifetimes | None:
    chain = []
    for number in range(1, rounds + 1):
        end = saved_end(_plan, _plan.point(seed, "ticket", rewind, number))
        if end is None:
            return None
        chain.append(end.masks)
    return lifetimes_of(chain) if chain else None


def stored(plan: TicketPlan) -> Experiment:
    """What the store has of a plan."""
    return Experiment(plan, cache.store().rows(plan))


def example() -> Experiment | None:
    """The finished experiment that ships with this version; None where none is installed."""
    if EXAMPLE not in cache.models():
        return None
    found = cache.entry(EXAMPLE).tickets()
    if not found:
        return None
    try:
        rows = [row_from_dict(TicketPlan.kind, row) for row in found["rows"]]
        plan = TicketPlan.from_dict(found["plan"])
    except (KeyError, TypeError) as error:
        raise SparsityError(f"the shipped ticket experiment cannot be read ({error!r})") from error
    return Experiment(plan, rows, found["command"], found["lifetimes"])  # type: ignore[arg-type]
