"""The parts of the Lottery ticket page: cost, progress charts, what arms say, and closer views."""

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from app import export, uploads
from app.ticket_behaviour import draw_behaviour
from app.ticket_charts import HISTORY, against_left, frame_of, history_of, training_curves
from app.ticket_line import draw_line
from app.ticket_masks import draw_masks, draw_overlap
from app.ticket_source import Experiment
from app.ticket_words import words_of
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.reading import readings
from sparsity_core.tickets.row import TicketResult
from sparsity_core.tickets.trial import seen_so_far

_WHEN = {"At the end": ("value", False), "At the early stop": ("early_value", True)}


def draw_tickets(experiment: Experiment) -> None:
    """Everything that is there of an experiment, finished or not."""
    if not experiment.rows:
        st.info("No training of this plan is finished yet; the first appears here.")
        return
    when = st.segmented_control(
        "Accuracy", list(_WHEN), default="At the end", required=True, key="tickets-when",
        bind="query-params",
    )  # fmt: skip
    _draw_progress(experiment, *_WHEN[str(when)])
    _draw_readings(experiment, early=_WHEN[str(when)][1])
    shown = st.segmented_control(
        "A closer look", list(_VIEWS), default=next(iter(_VIEWS)), required=True,
        key="tickets-view", bind="query-params",
    )  # fmt: skip
    _VIEWS[str(shown)](experiment)
    _draw_trouble(experiment)


def _draw_progress(experiment: Experiment, column: str, early: bool) -> None:
    plan, table = experiment.plan, frame_of(experiment.rows)
    if table.empty or table[column].isna().all():
        st.info("None of the trainings could be measured; the reasons are below.")
        return
    setting = plan.setting
    words = words_of(plan)
    dense = table[(table["arm"] == "ticket") & (table["round"] == 0)].drop_duplicates("seed")
    left, right = st.columns(2)
    with left:
        stage = "at early stop, " if early else ""
        title = f"{setting.metric} ({stage}%, {setting.samples:,} {setting.split} samples)"
        chart = against_left(table, column, title, dense=list(dense[column].dropna()))
        export.show(chart, table, "tickets", key="tickets", **words)
    with right:
        chart = against_left(
            table, "early_stop", "step with the lowest validation loss",
            dense=list(dense["early_stop"].dropna()),
        )  # fmt: skip
        export.show(chart, table, "early-stop", key="early stop", **words)
    st.caption(
        f"{uploads.in_words(plan.model)}, {plan.steps:,} steps of {plan.training.optimizer} each "
        f"(rate {plan.training.rate:g}, batch {plan.training.batch_size}); "
        f"{plan.rule.share:.0%} of each layer's weights go a round. "
        f"{_seeds(len(set(table['seed'])))} An earlier stop means "
        "quicker learning; a training of too few steps stops at its last."
    )


def _seeds(count: int) -> str:
    if count == 1:
        return "One seed: nothing says how far chance alone would move a point."
    return (
        f"Means over {count} seeds, bars from the lowest to the highest; the grey band spans the "
        "dense networks."
    )


def _draw_readings(experiment: Experiment, early: bool) -> None:
    st.subheader("What each arm tests, and what it says here")
    rounds = sorted({row.round for row in experiment.rows if row.round and row.value is not None})
    if not rounds:
        st.caption(
            "  \n".join(f"**{ARMS[a].label}**: {ARMS[a].asks}" for a in experiment.plan.arms)
        )
        return
    arms = {n: {row.arm for row in experiment.rows if row.round == n} for n in rounds}
    full = [n for n in rounds if len(arms[n]) == max(map(len, arms.values()))]
    wins = [n for n in full if _wins(experiment, n, early)]
    shown = (wins or full)[-1]  # the smallest ticket that still wins
    left = {row.round: 1 - row.sparsity for row in experiment.rows if row.sparsity is not None}
    number = st.selectbox(
        "In round", rounds, index=rounds.index(shown), key=f"readings {shown}",
        format_func=lambda n: f"{n}: {left[n]:.1%} of the weights left",
    )  # fmt: skip
    columns = st.columns(2)
    for place, found in enumerate(readings(experiment.rows, number, early=early)):
        arm = ARMS[found.arm]
        beside = "dense" if found.arm == "ticket" else "ticket"
        error = "" if found.error is None else f" ± {100 * found.error:.2f}"
        seeds = f"{len(found.differences)} seed{'s' if len(found.differences) > 1 else ''}"
        to = f", to step {found.rewind}" if len(experiment.plan.rewinds) > 1 else ""
        here = f"{100 * found.mean:+.2f}{error} points to {beside} ({seeds}), **{found.verdict}**"
        with columns[place % 2].container(border=True):
            st.markdown(f"**{arm.label}**{to}: {here}  \n{found.means}")
            st.caption(arm.asks)
    st.caption(
        "Differences are paired by seed, ± one standard error over seeds; `level` = within two of "
        "them, which few seeds make easy: it is no proof of sameness."
    )


def _wins(experiment: Experiment, number: int, early: bool) -> bool:
    """Is the ticket of a round not worse than dense?"""
    found = readings(experiment.rows, number, early=early)
    return any(each.arm == "ticket" and each.verdict != "worse" for each in found)


def _draw_training(experiment: Experiment) -> None:
    rows = [row for row in experiment.rows if row.history]
    plan = experiment.plan
    columns = st.columns(3 if len(plan.rewinds) > 1 else 2)
    arms = list(dict.fromkeys(row.arm for row in rows))
    if not arms:
        return
    arm = columns[0].selectbox(
        "Arm", arms, format_func=lambda a: ARMS[a].label, key=f"curves {arms}"
    )
    seeds = sorted({row.seed for row in rows if row.arm == arm})
    seed = columns[1].selectbox("Seed", seeds, key=f"curves {seeds}")
    rewind = plan.rewinds[0]
    if len(plan.rewinds) > 1:
        rewind = columns[2].selectbox("Rewound to", plan.rewinds, key=f"curves to {plan.rewinds}")
    shown = st.pills("Curve", list(HISTORY), default="Validation loss", required=True, key="curve")
    own = [row for row in rows if (row.arm, row.seed) == (arm, seed)]
    own = [row for row in own if row.rewind == rewind or not row.round]
    if arm != "ticket":  # the dense network to compare with
        own += [r for r in rows if (r.arm, r.seed, r.round) == ("ticket", seed, 0)]
    looks = history_of(own)
    words = words_of(plan)
    export.show(
        training_curves(looks, str(shown), plan.setting.metric), looks, "ticket-training",
        key="training curves", **words,
    )  # fmt: skip
    st.caption(
        f"Seed {seed}, a look every {plan.every} steps. Diamonds: the early stop, where the "
        "validation loss is lowest, found afterwards with the whole curve known."
    )


def draw_under_way(experiment: Experiment) -> None:
    """Where the training that runs now has got to, as far as it was last saved."""
    there = {row.point_id for row in experiment.rows}
    point = next((p for p in experiment.plan.points() if p.id not in there), None)
    if point is None:
        return
    name = f"{ARMS[point.arm].label}, round {point.round}, seed {point.seed}"
    seen = seen_so_far(point)
    if seen is None:
        st.caption(f"Now training: {name}.")
        return
    st.caption(
        f"Now training: {name}; at step {seen.steps[-1]:,} of {experiment.plan.steps:,} the "
        f"validation loss was {seen.losses[-1]:.4f}, the {experiment.plan.setting.metric} "
        f"{seen.values[-1]:.2%} (lowest loss so far at step {seen.early_stop:,})."
    )
    looks = pd.DataFrame({"step": seen.steps, "loss": seen.losses})
    st.line_chart(looks, x="step", y="loss", x_label="step", y_label="validation loss", height=180)


def _draw_trouble(experiment: Experiment) -> None:
    troubled = [row for row in experiment.rows if row.status != "ok"]
    if troubled:
        with st.expander(f"Trainings without a sound number: {len(troubled)}"):
            names = ("arm", "rewind", "round", "seed", "status", "message")
            st.dataframe(_columns(troubled, names), hide_index=True)


def _draw_numbers(experiment: Experiment) -> None:
    names = (
        *("arm", "rewind", "round", "seed", "sparsity", "value", "early_value", "early_stop"),
        *("validation_loss", "train_loss", "calibration_error", "barrier", "seconds"),
    )
    st.dataframe(_columns(experiment.rows, names), hide_index=True, placeholder="")
    st.caption("Shares from 0 to 1, as in the file; losses in nats.")


def _columns(rows: Sequence[TicketResult], names: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame([{name: getattr(row, name) for name in names} for row in rows])


_VIEWS: dict[str, Callable[[Experiment], None]] = {
    "Masks": draw_masks,
    "Training curves": _draw_training,
    "Overlap of seeds": draw_overlap,
    "Connectivity": draw_line,
    "Behaviour": draw_behaviour,
    "Numbers": _draw_numbers,
}
