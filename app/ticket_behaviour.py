"""What sparse networks do besides their accuracy, beside the difference of two dense ones."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st
from torch import Tensor

from app import cache, export
from app.behaviour_charts import (
    class_chart,
    class_table,
    reliability_chart,
    reliability_table,
)
from app.ticket_charts import against_left, frame_of
from app.ticket_source import Experiment
from app.ticket_words import words_of
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.behaviour import against_dense, noise_floor
from sparsity_core.tickets.row import TicketResult

_FLIPS, _CLASSES, _SURE = "Samples that flip", "Classes", "Calibration"


def draw_behaviour(experiment: Experiment) -> None:
    """Flips, classes or calibration, each beside its noise floor."""
    rows = [row for row in experiment.rows if row.predictions]
    if not rows:
        st.info("These rows are of an older version, which kept no predictions: train them again.")
        return
    shown = st.segmented_control(
        "What", [_FLIPS, _CLASSES, _SURE], default=_FLIPS, required=True, key="tickets-behaviour",
        label_visibility="collapsed",
    )  # fmt: skip
    words = words_of(experiment.plan)
    if shown == _FLIPS:
        _draw_flips(experiment, rows, words)
    else:
        _draw_round(experiment, rows, str(shown), words)


def _draw_flips(experiment: Experiment, rows: Sequence[TicketResult], words: Any) -> None:
    table = flips_table(rows, experiment.targets())
    floor = noise_floor(rows, experiment.targets())
    if table.empty:
        st.info("No sparse network is trained yet.")
        return
    setting = experiment.plan.setting
    title = f"unlike dense (% of {setting.samples:,} samples)"
    chart = against_left(
        table, "changed", title, dense=[100 * found.changed for _, _, found in floor],
        dense_name="two dense networks:", zero=True,
    )  # fmt: skip
    export.show(chart, table, "ticket-flips", key="ticket flips", **words)
    if floor:
        st.caption(
            f"Predictions on {setting.samples:,} {setting.split} samples that are unlike those of "
            "the dense network of the same seed. The grey band is the noise floor: "
            f"the same number between {len(floor)} pairs of dense networks with different seeds, "
            "which nobody would call damaged. Equal accuracy hides what lies above it."
        )
    else:
        st.caption("With one seed there is no noise floor: choose two or more.")
    last = table[table["round"] == table["round"].max()].groupby("series", sort=False)
    numbers = last[["changed", "lost", "gained", "other_errors"]].mean().reset_index()
    lines = [
        ["two dense networks", *_shares([found for _, _, found in floor])],
        *numbers.to_numpy().tolist(),
    ]
    columns = [
        "last round",
        "changed (%)",
        "right -> wrong (%)",
        "wrong -> right (%)",
        "wrong -> wrong (%)",
    ]
    st.dataframe(
        pd.DataFrame(lines[0 if floor else 1 :], columns=columns).style.format(precision=2),
        hide_index=True,
    )  # fmt: skip


def flips_table(rows: Sequence[TicketResult], targets: Tensor) -> pd.DataFrame:
    """One row a sparse network: what flips against the dense one of its seed, in per cent."""
    found = [
        (row, each) for row, each in against_dense(rows, targets) if row.arm != "corrupted-finder"
    ]
    table = frame_of([row for row, _ in found])
    if table.empty:
        return table
    by_id = {row.point_id: each for row, each in found}
    for column in ("lost", "gained", "other_errors"):
        table[column] = [
            100 * getattr(by_id[i], column) / by_id[i].samples for i in table["point_id"]
        ]
    table["changed"] = table["lost"] + table["gained"] + table["other_errors"]
    return table[
        [
            "series",
            "arm",
            "rewind",
            "round",
            "seed",
            "left",
            "changed",
            "lost",
            "gained",
            "other_errors",
        ]
    ]


def _shares(found: Sequence[Any]) -> list[float]:
    if not found:
        return []
    return [
        100 * sum(getattr(each, name) / each.samples for each in found) / len(found)
        if name != "changed"
        else 100 * sum(each.changed for each in found) / len(found)
        for name in ("changed", "lost", "gained", "other_errors")
    ]


def _draw_round(
    experiment: Experiment, rows: Sequence[TicketResult], shown: str, words: Any
) -> None:
    sparse = [row for row in rows if row.round and row.arm != "corrupted-finder"]
    if not sparse:
        st.info("No sparse network is trained yet.")
        return
    if shown == _SURE:
        _draw_errors(experiment, rows, words)
    left, right = st.columns(2)
    arms = list(dict.fromkeys(row.arm for row in sparse))
    arm = str(left.selectbox("Arm", arms, format_func=lambda a: ARMS[a].label, key=f"act {arms}"))
    rounds = sorted({row.round for row in sparse if row.arm == arm}, reverse=True)
    number = right.selectbox("Round", rounds, key=f"act round {rounds}")
    dense = [row for row in rows if row.arm == "ticket" and not row.round]
    own = [row for row in sparse if row.arm == arm and row.round == number]
    named = {"dense": dense, f"{ARMS[arm].label}, round {number}": own}
    samples = experiment.plan.setting.samples
    if shown == _CLASSES:
        values = {name: [row.class_values for row in found] for name, found in named.items()}
        table = class_table(values, cache.task(experiment.plan.model).classes)
        export.show(
            class_chart(table, samples), table, "ticket-classes", key="ticket classes", **words
        )
        st.caption(
            "Means over seeds, bars from the lowest to the highest seed: a class has changed where "
            "the arm leaves the bar of dense, whose own length is the noise floor."
        )
    else:
        table = reliability_table(
            {name: [row.reliability for row in found] for name, found in named.items()}
        )
        export.show(
            reliability_chart(table), table, "ticket-reliability", key="ticket sure", **words
        )
        st.caption(
            "Reliability diagram, all seeds together: on the line a network is right as often as "
            "it believes; below it, it is too sure. Size: samples in one of 15 bins of confidence."
        )


def _draw_errors(experiment: Experiment, rows: Sequence[TicketResult], words: Any) -> None:
    table = frame_of(rows)
    dense = table[(table["round"] == 0) & (table["arm"] == "ticket")]["calibration_error"]
    chart = against_left(
        table[table["round"] > 0], "calibration_error",
        f"calibration error (%, {experiment.plan.setting.samples:,} samples)",
        dense=list(dense), zero=True,
    )  # fmt: skip
    export.show(chart, table, "ticket-calibration", key="ticket errors", **words)
    st.caption(
        "How far confidence is from accuracy on average (ECE, 15 bins). The grey band spans the "
        "dense networks of all seeds: the noise floor."
    )
