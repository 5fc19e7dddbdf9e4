"""Which tickets to look for: from choices on screen to a plan."""

from typing import Any

import streamlit as st

from app import cache
from app.forms import folded, pick_samples, warn_of_unknown
from app.state import Frame
from sparsity_core.errors import SparsityError
from sparsity_core.recipe import OPTIMIZERS, RATE_SCHEDULES, Training
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.plan import TicketPlan, plan_tickets
from sparsity_core.tickets.rule import SCOPES, Rule

CONTROLS = [arm for arm in ARMS if arm not in ("ticket", "corrupted-finder")]
USUAL = ["one-shot", "reinitialised", "random", "other-order"]
_STEPS = (0, 10, 20, 50, 100, 200, 500, 1000, 2000)
_REPORTS = "Validation finds the early stop, so test reports."
_CONTROLS = "Trained beside the ticket; what each tests stands below."


def choose_tickets(frame: Frame) -> TicketPlan:
    """The form of an experiment; raises SparsityError for choices that make none."""
    with folded("Choose what to train"):
        left, middle, right, far = st.columns(4, vertical_alignment="bottom")
        rounds = _number(left, "Rounds", "rounds", 0, 50, 8, "of pruning; each trains anew")
        about = "Share of the weights that are left which goes in each round."
        rate = _number(middle, "Pruned a round (%)", "rate", 0.1, 99.0, 30.0, about)
        about = "The same of the output layer; the paper has half."
        last = _number(right, "Of the last layer (%)", "last", 0.0, 99.0, 15.0, about)
        about = "Weights that start from others, see other data orders; their spread is drawn."
        seeds = _number(far, "Seeds", "seeds", 1, 20, 3, about)
        left, right = st.columns(2)
        warn_of_unknown("tickets-controls", CONTROLS)
        controls = left.multiselect(
            "Controls", CONTROLS, USUAL, key="tickets-controls", bind="query-params",
            placeholder="none", help=_CONTROLS,
        )  # fmt: skip
        rewinds = right.multiselect(
            "Rewind to step", list(_STEPS), [0], key="tickets-rewinds", bind="query-params",
            accept_new_options=True, help="0 = the first weights; type others, choose several to "
            "compare.",
        )  # fmt: skip
        with st.container(horizontal=True, gap="medium"):
            training, every = _training()
            where = pick_samples(frame.model, "tickets", _REPORTS)
            scope = _scope()
    return plan_tickets(
        cache.task(frame.model),
        training=training,
        rounds=int(rounds),
        rule=Rule(rate / 100, last / 100, scope),
        arms=["ticket", *controls],
        rewinds=_whole(rewinds, "rewind to step"),
        seeds=range(int(seeds)),
        device=frame.device,
        every=every,
        **where,
    )


def view_of(plan: TicketPlan) -> dict[str, Any] | None:
    """What the form has to hold to make this plan, apart from its samples; None when it cannot."""
    training, rule = plan.training, plan.rule
    last = rule.share if rule.last_share is None else rule.last_share
    percents = [round(100 * share, 6) for share in (rule.share, last)]
    sayable = Training(
        steps=plan.steps,
        optimizer=training.optimizer,
        rate=training.rate,
        batch_size=training.batch_size,
        rate_schedule=training.rate_schedule,
    )
    made = Rule(percents[0] / 100, percents[1] / 100, rule.scope)
    if (training, rule, plan.control_rounds) != (sayable, made, ()):
        return None
    return {
        "tickets-rounds": plan.rounds,
        "tickets-rate": percents[0],
        "tickets-last": percents[1],
        "tickets-seeds": len(plan.seeds),
        "tickets-controls": [arm for arm in plan.arms if arm in CONTROLS],
        "tickets-rewinds": list(plan.rewinds),
        "tickets-steps": plan.steps,
        "tickets-every": plan.every,
        "tickets-optimizer": training.optimizer,
        "tickets-learning": training.rate,
        "tickets-batch": training.batch_size,
        "tickets-schedule": training.rate_schedule,
        "tickets-split": plan.setting.split,
        "tickets-scope": rule.scope,
    }


def _training() -> tuple[Training, int]:
    with st.popover("Training", icon=":material/school:"):
        steps = _number(st, "Steps of each training", "steps", 1, 1_000_000, 600, "all arms alike")
        about = "Steps between two looks at the validation split, which find the early stop."
        every = _number(st, "A look every", "every", 1, 100_000, 20, about)
        warn_of_unknown("tickets-optimizer", OPTIMIZERS)
        optimizer = st.selectbox(
            "Optimizer", OPTIMIZERS, OPTIMIZERS.index("adam"), key="tickets-optimizer",
            bind="query-params",
        )  # fmt: skip
        rate = st.number_input(
            "Learning rate", 0.0, 10.0, 0.003, 0.0001, "%.5f", key="tickets-learning",
            bind="query-params",
        )  # fmt: skip
        batch = _number(st, "Batch size", "batch", 1, 10_000, 60, "")
        warn_of_unknown("tickets-schedule", RATE_SCHEDULES)
        schedule = st.selectbox(
            "Rate schedule", RATE_SCHEDULES, RATE_SCHEDULES.index("constant"),
            key="tickets-schedule", bind="query-params",
        )  # fmt: skip
    training = Training(
        steps=int(steps),
        optimizer=optimizer,
        rate=float(rate),
        batch_size=int(batch),
        rate_schedule=schedule,
    )
    return training, int(every)


def _scope() -> str:
    with st.popover("Ranking"):
        warn_of_unknown("tickets-scope", SCOPES)
        chosen: str = st.selectbox(
            "Smallest weights of", SCOPES, key="tickets-scope", bind="query-params",
            help="`layer`: each layer loses its share. `global`: one ranking over all layers, but "
            "the last keeps its own share.",
        )  # fmt: skip
    return chosen


def _number(column: Any, name: str, key: str, low: Any, high: Any, usual: Any, about: str) -> float:
    step, form = (5.0, "%g") if isinstance(usual, float) else (1, "%d")
    value: float = column.number_input(
        name, low, high, usual, step, form, key=f"tickets-{key}", bind="query-params",
        help=about or None,
    )  # fmt: skip
    return value


def _whole(texts: list[Any], what: str) -> list[int]:
    try:
        return [int(text) for text in texts]
    except ValueError as error:
        raise SparsityError(
            f"{what}: {error.args[0].split(': ')[-1]} is no whole number"
        ) from error
