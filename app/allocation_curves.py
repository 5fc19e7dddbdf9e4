"""What each layer alone costs: the sweep that the forecast stands on, and a finer one."""

import streamlit as st

from app import cache, live, uploads
from app.allocation_words import forecast_python
from app.forms import warn_of_unknown
from app.known_sweeps import Sweep, known_sweeps
from app.state import Frame
from app.sweep_form import start_label
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS
from sparsity_core.store import Store
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.plan import SweepPlan

_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_SAMPLES = 2000  # at most; as the Sensitivity page takes
_KEY = "alloc-curves"


def choose_sweep(frame: Frame) -> Sweep | None:
    """The sweep to forecast from: the fullest that is known, unless another one is picked."""
    found = {sweep.name: sweep for sweep in known_sweeps(frame.model, frame.recipe)}
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
        left.caption(f"The forecast adds up the losses of single layers ({sweep.text}).")
        with left.popover("Copy as Python", icon=":material/code:"):
            python = forecast_python(plan.model, recipe, sweep.source)
            st.code(python, language="python", wrap_lines=True)
    else:
        way = f"{SCORERS.label(plan.scorers[0])} · {STRUCTURES.label(plan.structures[0])}"
        model = uploads.label_of(plan.model)
        left.info(
            f"No sweep of single layers with {way} is stored for {model}: without one there "
            "is no forecast, and `sensitivity` has nothing to go by. The Sensitivity page makes "
            "smaller ones."
        )
    new, label = start_label(plan, store)
    if new and (sweep is None or sweep.points < len(plan.sparsities)):
        with right:
            word = "Sweep finer" if sweep else "Sweep"
            live.start_button(plan, new, f"{word}: {label[0].lower()}{label[1:]}", key="sweep")
