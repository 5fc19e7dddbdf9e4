"""A stored run back in the forms of its page: the same choices give the same plan."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import streamlit as st

from app.answer_form import MEBI, answer_view
from app.curve_form import schedule_of
from app.curve_variants import variants
from app.forms import level
from app.kernel_run import formats_of
from app.kernel_run import view_of as kernel_view
from app.moving_form import view_of as moving_view
from app.state import take_recipe
from app.ticket_form import view_of as ticket_view
from sparsity_core.allocations import Sensitivity
from sparsity_core.controls import with_controls
from sparsity_core.curve import CurvePlan
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.kernels.latency import LatencyPlan
from sparsity_core.kernels.plan import KernelPlan
from sparsity_core.recipe import STAGES, Recipe, Training
from sparsity_core.repairs import repairs_label
from sparsity_core.schedules import SCHEDULES, OneShot
from sparsity_core.scorers import SCORERS, Random
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.tickets.plan import TicketPlan
from sparsity_core.variants import with_training

GOING = "run-going"  # the page and the link that a run is opened again in
AnyPlan = SweepPlan | CurvePlan | TicketPlan | MovingPlan | KernelPlan | LatencyPlan
PAGES = {
    "sweep": ("Sensitivity", "../pages/sensitivity.py"),
    "curve": ("Trade-off", "../pages/tradeoff.py"),
    "tickets": ("Lottery ticket", "../pages/tickets.py"),
    "moving": ("Moving masks", "../pages/moving.py"),
    "kernels": ("Kernels", "../pages/kernels.py"),
    "latency": ("Kernels", "../pages/kernels.py"),
}


def view_of(plan: AnyPlan, all_layers: Sequence[str]) -> dict[str, Any] | None:
    """What the form of the plan's page has to hold; None when it cannot say this plan."""
    if isinstance(plan, KernelPlan | LatencyPlan):
        return kernel_view(plan)
    if plan.seeds != tuple(range(len(plan.seeds))):
        return None
    if isinstance(plan, TicketPlan):
        return ticket_view(plan)
    if isinstance(plan, MovingPlan):
        return moving_view(plan)
    return _sweep_view(plan, all_layers) if isinstance(plan, SweepPlan) else _curve_view(plan)


def reopen(plan: AnyPlan, view: dict[str, Any]) -> None:
    """Fill what a link cannot say or may not set; for callbacks, which run before the sidebar."""
    if plan.model and st.session_state["model"] != plan.model:
        st.session_state["model"] = plan.model
    st.session_state["device"] = plan.device
    if isinstance(plan, SweepPlan | CurvePlan):
        take_recipe(_base(plan))
    if isinstance(plan, LatencyPlan):
        take_recipe(plan.recipe)
    if isinstance(plan, KernelPlan):
        st.session_state.update(formats_of(plan))
    if not isinstance(plan, KernelPlan | LatencyPlan):
        st.session_state[_samples_key(plan)] = plan.setting.samples
    for key in view:
        st.session_state.pop(key, None)  # what the form held before would win over the link
    # A model that is not loaded yet has its own screen first, after which no button is pressed.
    st.session_state[GOING] = PAGES[plan.kind][1], link_of(view)


def link_of(view: dict[str, Any]) -> dict[str, str | list[str]]:
    """The view as a link carries it; an empty list stands for an emptied choice."""
    return {
        key: [str(one) for one in value] or [""]
        if isinstance(value, list)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
        for key, value in view.items()
    }


def _samples_key(plan: SweepPlan | CurvePlan | TicketPlan | MovingPlan) -> str:
    return f"{plan.kind}-samples {plan.model} {plan.setting.split}"


def _sweep_view(plan: SweepPlan, all_layers: Sequence[str]) -> dict[str, Any] | None:
    scorers = [SCORERS.label(scorer) for scorer in plan.scorers[1:]]
    asked = answer_view(plan.question)
    read_back = all(float(level(share)) / 100 == share for share in plan.sparsities)
    if not read_back or asked is None or plan.memory % MEBI:
        return None
    if any(label not in SCORERS.kinds() for label in scorers):
        return None
    # The form puts the random control last.
    control = len(plan.scorers) > 1 and plan.scorers[-1] == Random()
    return {
        "sweep-scorers": scorers[:-1] if control else scorers,
        "sweep-random": control,
        "sweep-structures": [STRUCTURES.label(structure) for structure in plan.structures[1:]],
        "sweep-layers": [] if set(plan.layers) == set(all_layers) else list(plan.layers),
        **asked,
        "sweep-engine": plan.engine,
        "sweep-memory": plan.memory // MEBI,
        **_shared("sweep", plan),
    }


def _curve_view(plan: CurvePlan) -> dict[str, Any] | None:
    base = _base(plan).at(0.0)  # as plans keep their recipes
    trainings = {recipe.training for recipe in plan.recipes if recipe.training}
    training = next(iter(trainings), Training(epochs=0))
    if (
        len(trainings) > 1
        or training != Training(epochs=training.epochs, rate=training.rate)
        or base.schedule != OneShot()
        # The form takes the curves of the fullest sweep that it knows, whichever that is then.
        or any(isinstance(recipe.allocation, Sensitivity) for recipe in plan.recipes)
    ):
        return None
    others: dict[str, list[Any]] = {}
    for stage in (*STAGES, "repair"):
        found = dict.fromkeys(getattr(recipe, stage) for recipe in plan.recipes)
        others[stage] = [choice for choice in found if choice != getattr(base, stage)]
    rounds = _rounds(others["schedule"])
    if rounds is None:
        return None
    # The form is asked what it would plan: only an answer with the same recipes is a view.
    for crossed, baseline, shuffled, scored_once in product((False, True), repeat=4):
        chosen = dict(others)
        if baseline:
            chosen["scorer"] = [scorer for scorer in others["scorer"] if scorer != Random()]
        recipes = variants(base, chosen, crossed)
        recipes = with_controls(
            recipes, random=baseline, shuffled=shuffled, scored_once=scored_once
        )
        recipes = with_training(recipes, training)
        if set(recipes) == set(plan.recipes):
            return {
                **{f"curve-{stage}": _names(stage, found) for stage, found in chosen.items()},
                "curve-random": baseline,
                "curve-shuffled": shuffled,
                "curve-scored-once": scored_once,
                "curve-crossed": crossed,
                "curve-recalibrated": False,  # among the repairs when the plan has it
                "curve-epochs": training.epochs,
                "curve-rate": training.rate,
                "curve-rounds": rounds,
                **_shared("curve", plan),
            }
    return None


def _rounds(schedules: Sequence[Any]) -> int | None:
    """What the form has to hold to make these schedules; None when it cannot."""
    found = [5, *(getattr(schedule, "rounds", 5) for schedule in schedules)]
    return next((r for r in found if all(_makes(r, schedule) for schedule in schedules)), None)


def _makes(rounds: int, schedule: Any) -> bool:
    return bool(schedule_of(SCHEDULES.kind_of(schedule), rounds) == schedule)


def _names(stage: str, choices: Sequence[Any]) -> list[str]:
    if stage == "repair":
        return [repairs_label(choice) for choice in choices]
    registry = STAGES[stage]
    return [
        registry.kind_of(choice) if stage == "schedule" else registry.label(choice)
        for choice in choices
    ]


def _shared(form: str, plan: SweepPlan | CurvePlan) -> dict[str, Any]:
    setting = plan.setting
    return {
        f"{form}-levels": [level(sparsity) for sparsity in plan.sparsities],
        f"{form}-seeds": len(plan.seeds),
        f"{form}-split": setting.split,
        f"{form}-scoring": setting.score_samples,
    }


def _base(plan: SweepPlan | CurvePlan) -> Recipe:
    """The recipe of the sidebar."""
    if isinstance(plan, SweepPlan):
        return Recipe(scorer=plan.scorers[0], structure=plan.structures[0])
    first = plan.recipes[0]
    return Recipe(
        scorer=first.scorer,
        structure=first.structure,
        allocation=first.allocation,
        schedule=first.schedule,
        skip=first.skip,
    )
