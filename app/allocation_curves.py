"""What each layer alone costs: the sweeps that a forecast can stand on, and the one chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import cache, live
from app.allocation_words import forecast_python
from app.forms import warn_of_unknown
from app.state import Frame
from app.sweep_form import start_label
from sparsity_core.plans import row_from_dict
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS
from sparsity_core.store import Store
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.forecast import Curve, curves
from sparsity_core.sweep.plan import SweepPlan

_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_SAMPLES = 2000  # at most; as the Sensitivity page takes
_KEY = "alloc-curves"


@dataclass(frozen=True)
class Sweep:
    """One sweep's rows for one scorer and structure."""

    name: str
    source: str  # the Python that reads its rows again
    rows: tuple[Any, ...]
    curves: dict[str, Curve]  # the loss rise of each layer alone
    split: str
    samples: int

    @property
    def levels(self) -> int:
        """How many sparsities were asked for."""
        return len({row.sparsity for row in self.rows})

    @property
    def points(self) -> int:
        """How many of them have a sound number in every layer's curve, besides (0, 0)."""
        return min((len(curve) - 1 for curve in self.curves.values()), default=0)

    @property
    def text(self) -> str:
        """What the numbers stand on."""
        seeds = len({row.seed for row in self.rows})
        return (
            f"{self.name}: {len(self.curves)} layers, {self.levels} levels, {seeds} seed"
            f"{'s' if seeds > 1 else ''}, {self.samples:,} {self.split} samples"
        )


def choose_sweep(frame: Frame) -> Sweep | None:
    """The sweep to forecast from: the fullest that is known, unless another one is picked."""
    found = {sweep.name: sweep for sweep in _known(frame)}
    if not found:
        return None
    names = list(found)
    if len(names) == 1:
        return found[names[0]]
    warn_of_unknown(_KEY, names)
    if st.session_state.get(_KEY, names[0]) not in names:
        st.session_state[_KEY] = names[0]  # another scorer's
    name = st.selectbox(
        "Forecast from", names, key=_KEY, bind="query-params",
        help="Sensitivity sweeps of this model, scorer and structure, the fullest first.",
    )  # fmt: skip
    return found[str(name)]


def sweep_plan(frame: Frame) -> SweepPlan:
    """A sweep of every layer alone, fine enough to forecast from."""
    recipe = frame.recipe
    fixed = recipe.structure.fixed_sparsity
    return cache.plan_of(
        frame.model,
        scorers=[recipe.scorer],
        structures=[recipe.structure],
        sparsities=_LEVELS if fixed is None else [fixed],
        samples=min(_SAMPLES, len(cache.task(frame.model).validation)),
        device=frame.device,
    )


def offer_sweep(plan: SweepPlan, sweep: Sweep | None, store: Store, recipe: Recipe) -> None:
    """What the forecast stands on, and a finer sweep for one click."""
    left, right = st.columns(2, vertical_alignment="center")
    if sweep:
        left.caption(f"The forecast adds up losses of single layers from {sweep.text}.")
        with left.popover("Copy as Python", icon=":material/code:"):
            python = forecast_python(plan.model, recipe, sweep.source)
            st.code(python, language="python", wrap_lines=True)
    else:
        way = f"{SCORERS.label(plan.scorers[0])} · {STRUCTURES.label(plan.structures[0])}"
        left.info(
            f"No sweep of single layers with {way} is stored for {plan.model}: without one there "
            "is no forecast, and `sensitivity` has nothing to go by. The Sensitivity page makes "
            "smaller ones."
        )
    new, label = start_label(plan, store)
    if new and (sweep is None or sweep.points < len(plan.sparsities)):
        with right:
            word = "Sweep finer" if sweep else "Sweep"
            live.start_button(plan, new, f"{word}: {label[0].lower()}{label[1:]}", key="sweep")


def _known(frame: Frame) -> list[Sweep]:
    """Stored sweeps and the one that ships, those with most layers and levels first."""
    found = [sweep for sweep in [*_stored(frame), *_shipped(frame)] if sweep.curves]
    return sorted(found, key=lambda sweep: (len(sweep.curves), sweep.levels), reverse=True)


def _stored(frame: Frame) -> list[Sweep]:
    store, digest = cache.store(), cache.task(frame.model).model_digest
    found = []
    for run in store.runs():
        if run.kind != SweepPlan.kind or run.model != frame.model or not run.done:
            continue
        if run.state in ("queued", "running"):
            continue  # it would be passed over for a fuller one, and stay so when it is done
        plan: SweepPlan = store.plan(run.id)
        if plan.setting.model_digest == digest and frame.recipe.scorer in plan.scorers:
            source = f"Store().rows(Store().plan({run.id!r}))"
            found.append(_sweep(f"run {run.id[:8]}", source, frame.recipe, store.rows(plan)))
    return found


def _shipped(frame: Frame) -> list[Sweep]:
    shipped = cache.entry(frame.model).sensitivity()
    if not shipped:
        return []
    rows = [row_from_dict(SweepPlan.kind, row) for row in shipped["rows"]]
    shipped_rows = f"catalog()[{frame.model!r}].sensitivity()['rows']"
    source = f"[row_from_dict('sweep', row) for row in {shipped_rows}]"
    return [_sweep("shipped with this version", source, frame.recipe, rows)]


def _sweep(name: str, source: str, recipe: Recipe, rows: Sequence[Any]) -> Sweep:
    way = (SCORERS.label(recipe.scorer), STRUCTURES.label(recipe.structure))
    own = tuple(row for row in rows if (row.scorer, row.structure) == way)
    measured = next((row for row in own if row.samples), None)
    return Sweep(
        name,
        source,
        own,
        curves(own),
        measured.split if measured else "",
        measured.samples if measured else 0,
    )
