"""Linear mode connectivity on screen: the error on the line between two orders of the data."""

import json
from collections.abc import Sequence

import altair as alt
import pandas as pd
import streamlit as st

from app import export
from app.theme import GREY, HIGHLIGHT, AnyChart, colours, shapes
from app.ticket_charts import against_left, frame_of
from app.ticket_source import Experiment
from app.ticket_words import words_of
from sparsity_core.tickets.connectivity import STABLE, Line
from sparsity_core.tickets.row import TicketResult


def draw_line(experiment: Experiment) -> None:
    """The line of one round, its barrier marked, and the barrier over all rounds."""
    plan = experiment.plan
    rows = [row for row in experiment.rows if row.line]
    if not rows:
        st.info("Choose the control `other-order` to train each ticket twice and walk between.")
        return
    rounds = sorted({row.round for row in rows})
    number = st.selectbox("Round (0 = dense)", rounds, key=f"line {rounds}")
    own = [row for row in rows if row.round == number]
    table, peaks = line_table(own)
    words = words_of(plan)
    setting = plan.setting
    what = "error" if setting.metric == "accuracy" else setting.metric
    title = f"{what} (%, {setting.samples:,} {setting.split} samples)"
    left, right = st.columns(2)
    with left:
        export.show(line_chart(table, peaks, title), table, "ticket-line", key="line", **words)
        worst = max(row.barrier for row in own if row.barrier is not None)
        verdict = "stable" if worst < STABLE else "not stable"
        st.caption(
            "From the ticket (0) to its twin, which saw the data in another order (1), weights "
            f"mixed in between. The barrier, from the ends' mean up to the worst point, is at most "
            f"{100 * worst:.2f} points here: **{verdict}** (below {STABLE:.0%} counts as none, "
            "Frankle et al. 2020, arXiv 1912.05671)."
        )
    barriers = frame_of(rows)
    with right:
        export.show(barrier_chart(barriers), barriers, "ticket-barriers", key="barriers", **words)
        st.caption(
            "No barrier: both trainings end in one valley, the noise of SGD does not matter from "
            "the rewind step on, and tickets found that way work. Dashed: the limit of 2 points."
        )


def line_table(rows: Sequence[TicketResult]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points on each line, and where the barrier stands: error (or the metric) in per cent."""
    lines, peaks = [], []
    for row in rows:
        accuracy = row.metric == "accuracy"
        values = [100 * (1 - v) if accuracy else 100 * v for v in json.loads(row.line)]
        name = f"seed {row.seed}" + (f", from step {row.rewind}" if row.rewind else "")
        lines += [(name, i / (len(values) - 1), v) for i, v in enumerate(values)]
        line = Line(tuple(values), higher_is_better=False)
        mean = (values[0] + values[-1]) / 2
        at = values.index(max(values)) / (len(values) - 1)
        peaks.append((name, at, mean, mean + line.barrier))
    return (
        pd.DataFrame(lines, columns=["pair", "share", "error"]),
        pd.DataFrame(peaks, columns=["pair", "share", "mean", "worst"]),
    )


def barrier_chart(table: pd.DataFrame) -> AnyChart:
    """The barrier against the weights left, below the limit that counts as none."""
    limit = pd.DataFrame({"at": [100 * STABLE]})
    rule = alt.Chart(limit).mark_rule(color=HIGHLIGHT, strokeDash=[6, 3]).encode(y="at:Q")
    # As a whole: taken one by one, its layers would lose the data that they share.
    return against_left(table, "barrier", "barrier (points)", zero=True) + rule


def line_chart(table: pd.DataFrame, peaks: pd.DataFrame, title: str) -> AnyChart:
    """Each pair's line; a bar from the ends' mean to the worst point is its barrier."""
    pairs = list(dict.fromkeys(table["pair"]))
    legend = alt.Legend(orient="bottom", columns=3, title=None)
    colour = alt.Color(
        "pair:N",
        sort=pairs,
        legend=legend,
        scale=alt.Scale(domain=pairs, range=colours(len(pairs))),
    )
    shape = alt.Shape(
        "pair:N", sort=pairs, legend=legend, scale=alt.Scale(domain=pairs, range=shapes(len(pairs)))
    )
    x = alt.X("share:Q", title="way from the ticket (0) to its twin (1)")
    scale = alt.Scale(zero=False)
    base = alt.Chart(table).encode(x, alt.Y("error:Q", title=title, scale=scale), colour)
    bars = alt.Chart(peaks).mark_rule(strokeWidth=3, opacity=0.6).encode(
        x, alt.Y("mean:Q", scale=scale), alt.Y2("worst:Q"), colour
    )  # fmt: skip
    heights = zip(peaks["worst"], peaks["mean"], strict=True)
    texts = (
        alt.Chart(peaks.assign(text=[f"{worst - mean:.2f}" for worst, mean in heights]))
        .mark_text(dy=-8, color=GREY, fontSize=11)
        .encode(x, alt.Y("worst:Q", scale=scale), text="text:N")
    )  # fmt: skip
    points = base.mark_point(filled=True, size=28, opacity=1).encode(
        shape, tooltip=["pair:N", "share:Q", alt.Tooltip("error:Q", format=".2f")]
    )
    return alt.layer(base.mark_line(strokeWidth=1.6), points, bars, texts).properties(height=360)
