"""Which rules to train under: from choices on screen to a plan."""

from decimal import Decimal, InvalidOperation
from typing import Any

import streamlit as st

from app import cache
from app.about import about
from app.forms import folded, pick_samples, warn_of_unknown
from app.state import Frame
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.choice import rule_with
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.dynamic.planning import DISTRIBUTIONS, EXECUTIONS, plan_moving
from sparsity_core.recipe import OPTIMIZERS, Training

CHOICES = [kind for kind in RULES if kind not in ("dense", "static")]
_REPORTS = "After the last step; on the way validation is looked at."
USUAL = ["set-rigl", "rigl", "srigl", "gmp"]
_LEVELS = (50, 80, 90, 95, 98, 99)
_EXECUTION = (
    "simulated: dense products with masked weights, for every rule and layer. sparse: products of "
    "live weights alone, on a CPU, for models of linear layers."
)

_DECAY = (
    "Of living weights. It also drives the sparsity that str and autosparse learn: about 14 and "
    "6 % of digits-mlp with the usual 0.0001, 45 and 34 % with 0.003, 87 and 77 % with 0.01 "
    "(800 steps); too much takes all weights."
)


def choose_moving(frame: Frame) -> MovingPlan:
    """The form of an experiment; raises SparsityError for choices that make none."""
    with folded("Choose what to train"):
        left, right = st.columns([3, 2], vertical_alignment="bottom")
        warn_of_unknown("moving-rules", CHOICES)
        kinds = left.multiselect(
            "Rules", CHOICES, USUAL, key="moving-rules", bind="query-params",
            help="Dense and static (a random mask that never moves) are always trained beside.",
        )  # fmt: skip
        percents = right.multiselect(
            "Sparsities (%)", list(_LEVELS), [95], key="moving-levels", bind="query-params",
            accept_new_options=True,
        )  # fmt: skip
        columns = st.columns(5, vertical_alignment="bottom")
        warn_of_unknown("moving-distribution", DISTRIBUTIONS)
        distribution = columns[0].selectbox(
            "Distribution", DISTRIBUTIONS, key="moving-distribution", bind="query-params",
            help="How sparse each layer is: ERK gives thin layers more, uniform all alike.",
        )  # fmt: skip
        about_interval = "Steps between two updates of the masks."
        interval = _number(columns[1], "Interval", "interval", 1, 100_000, 20, about_interval)
        about_drop = "Share of the live weights that moves at first; falls along a cosine."
        drop = _number(columns[2], "Drop (%)", "drop", 0.0, 100.0, 30.0, about_drop)
        about_until = "Share of the training after which masks stand still; SET goes on to the end."
        until = _number(columns[3], "Until (%)", "until", 1.0, 100.0, 75.0, about_until)
        about_seeds = "First weights, masks and data order; their spread is drawn."
        seeds = _number(columns[4], "Seeds", "seeds", 1, 20, 2, about_seeds)
        with st.container(horizontal=True, gap="medium"):
            training, every = _training()
            where = pick_samples(frame.model, "moving", _REPORTS)
            matched, execution = _more()
        about(RULES, key="moving")
    shared = {"every": int(interval), "drop": drop / 100, "until": until / 100}
    return plan_moving(
        cache.task(frame.model),
        training=training,
        rules=[rule_with(kind, shared, {}) for kind in kinds or ["static"]],
        sparsities=[_share(percent) for percent in percents],
        allocation=ALLOCATIONS.make(distribution),
        seeds=range(int(seeds)),
        every=every,
        matched=matched,
        execution=execution,
        device=frame.device,
        **where,
    )


def view_of(plan: MovingPlan) -> dict[str, Any] | None:
    """What the form has to hold to make this plan; None when it cannot say it."""
    shared = None
    kinds = [RULES.kind_of(rule) for rule in plan.rules]
    for rule in plan.rules:
        if RULES.kind_of(rule) == "rigl":
            shared = {name: getattr(rule, name) for name in ("every", "drop", "until")}
    if shared is None or plan.skip:
        return None
    same = [rule_with(kind, shared, {}) for kind in kinds]
    training = plan.training
    told = Training(
        steps=training.steps, optimizer=training.optimizer, rate=training.rate,
        batch_size=training.batch_size, weight_decay=training.weight_decay,
    )  # fmt: skip
    if tuple(same) != plan.rules or told != training:
        return None
    return {
        "moving-rules": [kind for kind in kinds if kind in CHOICES],
        "moving-levels": [f"{100 * share:g}" for share in plan.sparsities],
        "moving-distribution": ALLOCATIONS.kind_of(plan.allocation),
        "moving-interval": shared["every"],
        "moving-drop": 100 * shared["drop"],
        "moving-until": 100 * shared["until"],
        "moving-seeds": len(plan.seeds),
        "moving-steps": plan.steps,
        "moving-every": plan.every,
        "moving-optimizer": training.optimizer,
        "moving-learning": training.rate,
        "moving-batch": training.batch_size,
        "moving-decay": training.weight_decay,
        "moving-split": plan.setting.split,
        "moving-matched": plan.matched,
        "moving-execution": plan.execution,
    }


def _training() -> tuple[Training, int]:
    with st.popover("Training", icon=":material/school:"):
        steps = _number(st, "Steps of each training", "steps", 1, 1_000_000, 800, "all rules alike")
        about = "Steps between two looks at the validation split; each is a frame of the film."
        every = _number(st, "A look every", "every", 1, 100_000, 40, about)
        warn_of_unknown("moving-optimizer", OPTIMIZERS)
        optimizer = st.selectbox(
            "Optimizer", OPTIMIZERS, key="moving-optimizer", bind="query-params"
        )
        rate = _exact("Learning rate", "learning", 0.1, "falls along a cosine")
        batch = _number(st, "Batch size", "batch", 1, 10_000, 64, "")
        decay = _exact("Weight decay", "decay", 1e-4, _DECAY)
    training = Training(
        steps=int(steps),
        optimizer=optimizer,
        rate=rate,
        batch_size=int(batch),
        weight_decay=decay,
    )
    return training, int(every)


def _more() -> tuple[bool, str]:
    with st.popover("More"):
        matched = st.checkbox(
            "Match learned sparsities", key="moving-matched", bind="query-params",
            help="For str, autosparse and dst, whose sparsity is an outcome: RigL at the same "
            "count in each layer.",
        )  # fmt: skip
        warn_of_unknown("moving-execution", EXECUTIONS)
        execution = st.selectbox(
            "Products", EXECUTIONS, key="moving-execution", bind="query-params", help=_EXECUTION
        )
    return matched, execution


def _number(column: Any, name: str, key: str, low: Any, high: Any, usual: Any, about: str) -> float:
    step, form = (1.0, "%.1f") if isinstance(usual, float) else (1, "%d")
    value: float = column.number_input(
        name, low, high, usual, step, form, key=f"moving-{key}", bind="query-params",
        help=about or None,
    )  # fmt: skip
    return value


def _exact(name: str, key: str, usual: float, about: str) -> float:
    value: float = st.number_input(
        name, 0.0, 10.0, usual, 1e-4, "%.5f", key=f"moving-{key}", bind="query-params", help=about
    )
    return value


def _share(percent: Any) -> float:
    try:
        return float(Decimal(str(percent)) / 100)
    except InvalidOperation:  # what was typed is no number: the plan says so and how to write it
        return float("nan")
