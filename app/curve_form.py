"""Which whole-model recipes to lay over each other: from choices on screen to a curve's plan."""

from decimal import Decimal, InvalidOperation
from typing import Any

import streamlit as st

from app import cache
from app.about import about, question
from app.curve_names import label
from app.curve_variants import variants
from app.forms import folded, structures, warn_of_unknown
from app.known_sweeps import with_curves
from app.state import Frame
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.controls import with_controls
from sparsity_core.curve import CurvePlan, plan_curve
from sparsity_core.recipe import STAGES, Recipe, Training
from sparsity_core.repairs import REPAIRS, repairs_from
from sparsity_core.schedules import SCHEDULES, Schedule
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import SPLITS
from sparsity_core.variants import BRIEF, usual_repairs, with_training

_LEVELS = (10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 98, 99)
_USUAL = (30, 50, 70, 80, 90, 95)
_RANDOM = "Each recipe again with random scores: what a scorer has to beat."
_SHUFFLED = "Each recipe again with as many weights kept in each layer, but anywhere in it."
_SCORED_ONCE = (
    "Each recipe of several rounds again with the dense model's scores in all of them. Otherwise "
    "each round scores what the one before left."
)
_CROSSED = "Otherwise one choice differs from the sidebar's recipe at a time."
_RECALIBRATED = (
    "Each recipe again with the statistics of its batch norms measured anew: half of the collapse "
    "that people see is stale statistics. Without batch norms it adds nothing."
)
_OWN_ROUNDS = ("synflow-exponential",)  # fewer than its 100 would be another method


def choose_curve(frame: Frame) -> CurvePlan:
    """The form of a comparison, starting from the frame's recipe; raises SparsityError for none."""
    with folded("Choose what to compare"):
        st.caption(f"The sidebar's recipe is always there: **{label(frame.recipe)}**.")
        recipes = _choose_recipes(frame)
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        percents = left.multiselect(
            "Sparsities (%)", list(_LEVELS), list(_USUAL), key="curve-levels", bind="query-params",
            accept_new_options=True,
        )  # fmt: skip
        seeds = _number(right, "Seeds", 1, 20, 1, "scoring samples, random scores, order")
        left, right = st.columns([1, 3])
        with left:
            where = _where(frame)
        with right:
            about(*STAGES.values(), REPAIRS, key="curve")
    return plan_curve(
        cache.task(frame.model),
        recipes=recipes,
        sparsities=[_share(percent) for percent in percents],
        seeds=range(int(seeds)),
        device=frame.device,
        **where,
    )


def _choose_recipes(frame: Frame) -> list[Recipe]:
    left, right = st.columns(2)
    scorers = _more(left, "scorer", SCORERS.kinds())
    shapes = _more(right, "structure", structures(), "Type others, such as `3:32`.")
    allocations = _more(left, "allocation", [k for k in ALLOCATIONS if k != "manual"])
    schedules = _more(right, "schedule", SCHEDULES.kinds())
    repairs = left.multiselect(
        "Repairs", REPAIRS.kinds(), key="curve-repair", bind="query-params",
        accept_new_options=True, placeholder="none",
        help=f"{question(REPAIRS)} Type several to have them one after the other: "
        "`least-squares + batch-norm`.",
    )  # fmt: skip
    numbers = right.columns(3, vertical_alignment="bottom")
    about_rounds = "of each schedule but one-shot, and synflow-exponential, which has 100"
    rounds = int(_number(numbers[0], "Rounds", 2, 50, 5, about_rounds))
    epochs = _number(
        numbers[1], "Fine-tuning epochs", 0, 200, BRIEF.epochs, "after each round; 0 = none"
    )
    rate = _number(numbers[2], "Learning rate", 0.0, 1.0, BRIEF.rate, "SGD with momentum, cosine")
    with st.container(horizontal=True, gap="medium"):
        controls = {
            "random": _yes("random", "Random baseline", _RANDOM),
            "shuffled": _yes("shuffled", "Shuffled masks", _SHUFFLED),
            "scored_once": _yes("scored-once", "Scored once", _SCORED_ONCE),
        }
        recalibrated = _yes("recalibrated", "Batch norms anew", _RECALIBRATED, usual=True)
        crossed = _yes("crossed", "All combinations", _CROSSED)
    others: dict[str, list[Any]] = {
        "scorer": [SCORERS.make(kind) for kind in scorers],
        "structure": [STRUCTURES.make(kind) for kind in shapes],
        "allocation": [ALLOCATIONS.make(kind) for kind in allocations],
        "schedule": [schedule_of(kind, rounds) for kind in schedules],
        "repair": [repairs_from(text) for text in repairs],
    }
    if recalibrated:
        others["repair"] += usual_repairs(cache.task(frame.model).model)[1:]
    recipes = variants(frame.recipe, others, crossed)
    # Before the controls: a random baseline keeps the allocation of the recipe that it stands by.
    recipes = [with_curves(recipe, frame.model) for recipe in recipes]
    recipes = with_controls(recipes, **controls)
    return with_training(recipes, Training(epochs=int(epochs), rate=float(rate)))


def _yes(key: str, name: str, about: str, usual: bool = False) -> bool:
    return st.checkbox(name, usual, key=f"curve-{key}", bind="query-params", help=about)


def _more(column: Any, stage: str, options: list[str], more: str = "") -> list[str]:
    if not more:
        warn_of_unknown(f"curve-{stage}", options)
    chosen: list[str] = column.multiselect(
        f"Other {stage}s", options, key=f"curve-{stage}", bind="query-params",
        accept_new_options=bool(more), help=f"{question(STAGES[stage])} {more}",
        placeholder="none",
    )  # fmt: skip
    return chosen


def _number(column: Any, name: str, low: Any, high: Any, usual: Any, about: str) -> float:
    key = f"curve-{name.split()[-1].lower()}"
    step = 0.001 if isinstance(usual, float) else 1
    form = "%.3f" if isinstance(usual, float) else "%d"
    value: float = column.number_input(
        name, low, high, usual, step, form, key=key, bind="query-params", help=about
    )
    return value


def _where(frame: Frame) -> dict[str, Any]:
    """The samples that report and those that score."""
    with st.popover("Samples"):
        split = st.selectbox(
            "Split that reports", SPLITS, index=1, key="curve-split", bind="query-params",
            help="Compare on validation; keep test for the final number.",
        )  # fmt: skip
        available = len(cache.task(frame.model).split(split))
        samples = st.number_input(
            f"Samples of it (of {available:,})", 1, available, min(available, 2000),
            key=f"curve-samples {frame.model} {split}", persist_state="session",
        )  # fmt: skip
        scoring = st.number_input(
            "Train samples for scoring", 1, 100_000, 512, key="curve-scoring", bind="query-params"
        )
    return {"split": split, "samples": int(samples), "score_samples": int(scoring)}


def schedule_of(kind: str, rounds: int) -> Schedule:
    """The schedule that the form makes of a kind and the number of rounds."""
    own = kind in _OWN_ROUNDS or "rounds" not in SCHEDULES.options_of(kind)
    options = {} if own else {"rounds": rounds}
    return SCHEDULES.make(kind, **options)


def _share(percent: Any) -> float:
    try:
        return float(Decimal(str(percent)) / 100)
    except InvalidOperation:  # what was typed is no number: the plan says so and how to write it
        return float("nan")
