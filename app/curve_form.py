"""Which whole-model recipes to lay over each other: from choices on screen to a curve's plan."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from itertools import product
from typing import Any

import streamlit as st

from app import cache
from app.about import about, question
from app.curve_names import STAGES, label
from app.forms import structures, warn_of_unknown
from app.state import Frame
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.curve import CurvePlan, plan_curve
from sparsity_core.recipe import Recipe, Training
from sparsity_core.schedules import SCHEDULES
from sparsity_core.scorers import SCORERS, Random
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import SPLITS

_LEVELS = (10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 98, 99)
_USUAL = (30, 50, 70, 80, 90, 95)


def variants(base: Recipe, others: dict[str, list[Any]], crossed: bool) -> list[Recipe]:
    """The base recipe first, then one choice changed at a time, or all combinations.

    `others`: further choices by stage, a name of STAGES.
    """
    if not crossed:
        changed = [replace(base, **{stage: one}) for stage, more in others.items() for one in more]
        return _unique([base, *changed])
    lists = [[getattr(base, stage), *more] for stage, more in others.items()]
    return _unique(
        replace(base, **dict(zip(others, kinds, strict=True))) for kinds in product(*lists)
    )


def with_random(recipes: Sequence[Recipe]) -> list[Recipe]:
    """The same recipes, and each once more with random scores: what a scorer has to beat."""
    return _unique([*recipes, *(replace(recipe, scorer=Random()) for recipe in recipes)])


def with_shuffled(recipes: Sequence[Recipe]) -> list[Recipe]:
    """The same recipes, and each once more with its masks shuffled within layers.

    What a ranking adds to the counts in each layer; random scores have no ranking to shuffle.
    """
    ranked = [recipe for recipe in recipes if recipe.scorer != Random()]
    return _unique([*recipes, *(replace(recipe, shuffled=True) for recipe in ranked)])


def with_controls(recipes: Sequence[Recipe], *, random: bool, shuffled: bool) -> list[Recipe]:
    """The recipes with the controls that were asked for."""
    recipes = with_random(recipes) if random else list(recipes)
    return with_shuffled(recipes) if shuffled else recipes


def with_training(recipes: Sequence[Recipe], training: Training) -> list[Recipe]:
    """The same recipes as pruned and, when there are epochs, fine-tuned after each round."""
    if not training.epochs:
        return list(recipes)
    return [*recipes, *(replace(recipe, training=training) for recipe in recipes)]


def choose_curve(frame: Frame) -> CurvePlan:
    """The form of a comparison, starting from the frame's recipe; raises SparsityError for none."""
    with st.expander("What to compare", expanded=True, icon=":material/tune:"):
        st.caption(f"The sidebar's recipe is always there: **{label(frame.recipe)}**.")
        left, right = st.columns(2)
        scorers = _more(left, "scorer", SCORERS.kinds())
        shapes = _more(right, "structure", structures(), "Type others, such as `1:8`.")
        allocations = _more(left, "allocation", [k for k in ALLOCATIONS if k != "manual"])
        schedules = _more(right, "schedule", SCHEDULES.kinds())
        baseline = left.checkbox(
            "Random baseline", key="curve-random", bind="query-params",
            help="Each recipe again with random scores: what a scorer has to beat.",
        )  # fmt: skip
        shuffled = left.checkbox(
            "Shuffled masks", key="curve-shuffled", bind="query-params",
            help="Each recipe again with as many weights kept in each layer, but anywhere in it.",
        )  # fmt: skip
        crossed = right.checkbox(
            "All combinations", key="curve-crossed", bind="query-params",
            help="Otherwise one choice differs from the sidebar's recipe at a time.",
        )  # fmt: skip
        percents = st.multiselect(
            "Sparsities (%)", list(_LEVELS), list(_USUAL), key="curve-levels", bind="query-params",
            accept_new_options=True,
        )  # fmt: skip
        epochs, rate, seeds, rounds = st.columns(4, vertical_alignment="bottom")
        training = Training(
            epochs=int(
                _number(epochs, "Fine-tuning epochs", 0, 200, 0, "after each round; 0 = none")
            ),
            rate=float(_number(rate, "Learning rate", 0.0, 1.0, 0.01, "SGD with momentum, cosine")),
        )
        count = int(_number(seeds, "Seeds", 1, 20, 1, "scoring samples, random scores, order"))
        steps = int(_number(rounds, "Rounds", 2, 50, 5, "of a geometric or cubic schedule"))
        left, right = st.columns([1, 3])
        with left:
            where = _where(frame)
        with right:
            about(*STAGES.values(), key="curve")
    others: dict[str, list[Any]] = {
        "scorer": [SCORERS.make(kind) for kind in scorers],
        "structure": [STRUCTURES.make(kind) for kind in shapes],
        "allocation": [ALLOCATIONS.make(kind) for kind in allocations],
        "schedule": [_schedule(kind, steps) for kind in schedules],
    }
    recipes = variants(frame.recipe, others, crossed)
    recipes = with_controls(recipes, random=baseline, shuffled=shuffled)
    recipes = with_training(recipes, training)
    return plan_curve(
        cache.task(frame.model),
        recipes=recipes,
        sparsities=[_share(percent) for percent in percents],
        seeds=range(count),
        device=frame.device,
        **where,
    )


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


def _schedule(kind: str, rounds: int) -> Any:
    options = {"rounds": rounds} if "rounds" in SCHEDULES.options_of(kind) else {}
    return SCHEDULES.make(kind, **options)


def _share(percent: Any) -> float:
    try:
        return float(Decimal(str(percent)) / 100)
    except InvalidOperation:  # what was typed is no number: the plan says so and how to write it
        return float("nan")


def _unique(recipes: Any) -> list[Recipe]:
    return list(dict.fromkeys(recipes))
