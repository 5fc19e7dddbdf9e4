"""The parts of the Sensitivity page: the results of a sweep, one chosen layer, the answer."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app import cache, export
from app.chosen_layer import follow_chart, follow_row, pick_layer
from app.early_view import draw_early
from app.reproduce import sweep_command, sweep_python
from app.sensitivity_charts import all_layers, heatmap, one_layer
from app.sensitivity_table import frame_of
from app.sensitivity_words import in_a_sentence
from app.state import take_recipe
from sparsity_core.comparison import lacks_interval
from sparsity_core.intake.doubt import below_card, on_card
from sparsity_core.intervals import NO_INTERVAL
from sparsity_core.status import OPEN
from sparsity_core.sweep.choice import Choice, recipe_from, sparsest_within
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.sweep.point import Result
from sparsity_core.units import PER_CENT, Unit, unit_of

_INTERVALS = (
    "From and to: where the drop lies. 95 % for each exact point; an early answer's interval holds "
    "for all points together at the sweep's error rate."
)


def warn_of_card(plan: SweepPlan, rows: Sequence[Result]) -> None:
    """Say so when the dense model is far below what its card says: wrong inputs, mostly."""
    measured = next((row for row in rows if row.dense_value is not None and row.samples), None)
    if measured is None or measured.metric != "accuracy":
        return
    expected = on_card(cache.task(plan.model).card, measured.split)
    if why := below_card(measured.dense_value or 0.0, measured.samples or 0, expected):
        st.warning(why)


def draw_results(plan: SweepPlan, rows: Sequence[Result]) -> None:
    """Curves, heatmap and table around one chosen layer; whatever is clicked, the others follow."""
    table = frame_of(rows, plan.question)
    metric = plan.setting.metric
    unit = unit_of(metric)
    sentence = st.container()
    ways = list(dict.fromkeys(table["way"]))
    way = st.pills("Scorer · structure", ways, default=ways[0], key=f"way {ways}") or ways[0]
    if said := _sentence(plan, rows, way, unit):
        sentence.markdown(f"**{said}**")
    layer = pick_layer(plan.layers)
    if plan.question:
        draw_early(plan, rows, layer)
    shown = table[table["way"] == way]
    words: dict[str, Any] = {"command": sweep_command(plan), "python": sweep_python(plan)}
    left, right = st.columns([3, 2])
    with left:
        st.subheader("All layers")
        if shown["value"].notna().any():
            chart = all_layers(shown, layer, metric)
            export.show(chart, shown, "layers", on_select=follow_chart, **words)
        else:
            st.info(f"No layer could be measured with {way}; the reasons are below.")
    with right:
        st.subheader("Drop in points" if unit is PER_CENT else f"Change of {metric}, + is worse")
        chart = heatmap(shown, layer, unit)
        export.show(chart, shown, "heatmap", on_select=follow_chart, **words)
    _draw_layer(table[table["layer"] == layer], layer, metric, words)
    engines = ", ".join(dict.fromkeys(table["engine"]))
    unknown = f" The drops have {NO_INTERVAL}." if lacks_interval(rows) else ""
    st.caption(f"Measured by engine: {engines}.{unknown}")
    _draw_trouble(table)


def draw_answer(plan: SweepPlan, rows: Sequence[Result]) -> None:
    """The sparsest setting of each layer within a chosen drop, and the recipe to take along."""
    st.subheader("How sparse may each layer be?")
    unit = unit_of(plan.setting.metric)
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    with left:
        allowed = _allowed(plan, rows, unit)
    ways = list(dict.fromkeys((row.scorer, row.structure) for row in rows))
    way = middle.selectbox("With", ways, format_func=" · ".join, key=f"with {ways}")
    cautious = right.toggle(
        "Cautious", plan.question is not None, key="cautious", bind="query-params",
        help="The whole interval must stay within the drop: 95 %, or an early answer's own.",
    )  # fmt: skip
    chosen = [row for row in rows if (row.scorer, row.structure) == way]
    choices = sparsest_within(chosen, allowed / unit.scale, cautious)
    layers = [choice.layer for choice in choices]
    st.dataframe(
        _answer(choices, unit).style.format(precision=unit.precision),
        hide_index=True,
        placeholder="",
        on_select=partial(follow_row, "answer", layers),
        selection_mode="single-row",
        key="answer",
    )
    st.caption(
        f"{'Up to ' * bool(plan.question)}{plan.setting.samples:,} {plan.setting.split} samples. "
        "Each layer was measured alone: "
        "together they cost more. Check the recipe as a whole on the Trade-off page, on the test "
        "split."
    )
    recipe = recipe_from(choices, *way)
    save, use, _ = st.columns([1, 1, 2])
    save.download_button(
        "Download recipe (YAML)", recipe.to_yaml(), f"{plan.model.replace(':', '-')}-recipe.yaml",
        icon=":material/download:", on_click="ignore", key="recipe", width="stretch",
    )  # fmt: skip
    taken = use.button(
        "Use as recipe", on_click=take_recipe, args=[recipe], key="use recipe", width="stretch",
        icon=":material/input:",
        help="The sidebar takes it over, and with it the Trade-off and Masks pages.",
    )  # fmt: skip
    if taken:
        st.rerun()  # the sidebar is not part of this fragment


def _sentence(plan: SweepPlan, rows: Sequence[Result], way: str, unit: Unit) -> str:
    """What the sweep says with one scorer and structure; nothing until it has all layers."""
    allowed = _usual_change(plan, rows, unit)
    own = [row for row in rows if f"{row.scorer} · {row.structure}" == way]
    choices = sparsest_within(own, allowed / unit.scale, plan.question is not None)
    if len(choices) < len(plan.layers):
        return ""
    if unit is PER_CENT:
        return in_a_sentence(choices, f"within {allowed:g} point{'s' * (allowed != 1)} of dense")
    return in_a_sentence(choices, f"within {allowed:g} of the dense {plan.setting.metric}")


def _allowed(plan: SweepPlan, rows: Sequence[Result], unit: Unit) -> float:
    """The change that may be."""
    metric, first = plan.setting.metric, _usual_change(plan, rows, unit)
    if unit is PER_CENT:
        return st.number_input(
            f"Drop in {metric} allowed (points)", 0.0, 100.0, first, 0.5,
            key="allowed", bind="query-params",
        )  # fmt: skip
    return st.number_input(
        f"Change of {metric} for the worse allowed", 0.0, None, first, first / 2, "%g",
        key="allowed-change", bind="query-params",
    )  # fmt: skip


def _usual_change(plan: SweepPlan, rows: Sequence[Result], unit: Unit) -> float:
    """A point of a share, or what the sweep asks for; of others a twentieth of the dense."""
    if unit is PER_CENT:
        asked = round(100 * (plan.question.threshold or 0), 4) if plan.question else 0.0
        return asked or 1.0
    dense = next((abs(row.dense_value) for row in rows if row.dense_value), 1.0)
    return float(f"{dense / 20:.1g}")


def _draw_layer(own: pd.DataFrame, layer: str, metric: str, words: dict[str, Any]) -> None:
    st.subheader(f"{layer}, every scorer and structure")
    if own["value"].notna().any():
        export.show(one_layer(own, metric), own, "layer", **words)
    else:
        st.info("No point of this layer has a number yet.")
    unit = unit_of(metric)
    columns = {
        "scorer": "scorer",
        "structure": "structure",
        "sparsity": "asked (%)",
        "achieved_sparsity": "achieved (%)",
        "removed": "weights set to zero",
        "value": unit.title(metric),
        "drop": unit.drop,
        "drop_low": "drop from",
        "drop_high": "drop to",
        "answer": "answer",
        "samples": "samples",
        "split": "split",
        "mark": "point",
        "seed": "seed",
        "engine": "engine",
        "status": "status",
        "message": "message",
    }
    if not own["answer"].any():
        del columns["answer"]
    with st.expander("Numbers of this layer: asked and achieved sparsity side by side"):
        st.caption(_INTERVALS)
        st.dataframe(
            own[list(columns)].rename(columns=columns).style.format(precision=unit.precision),
            hide_index=True,
            placeholder="",
        )


def _draw_trouble(table: pd.DataFrame) -> None:
    troubled = table[~table["status"].isin(["ok", OPEN])]
    if troubled.empty:
        return
    counts = ", ".join(f"{n} {status}" for status, n in troubled["status"].value_counts().items())
    columns = ["layer", "scorer", "structure", "sparsity", "seed", "status", "message"]
    with st.expander(f"Points without a sound number: {counts}"):
        st.dataframe(
            troubled[columns].rename(columns={"sparsity": "asked (%)"}).style.format(precision=2),
            hide_index=True,
        )


def _answer(choices: Sequence[Choice], unit: Unit) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": [choice.layer for choice in choices],
            "asked (%)": [100 * choice.sparsity for choice in choices],
            "achieved (%)": [_shown(choice, "achieved_sparsity", 100) for choice in choices],
            unit.drop: [_shown(choice, "drop", unit.scale) for choice in choices],
            "drop from": [_shown(choice, "drop_low", unit.scale) for choice in choices],
            "drop to": [_shown(choice, "drop_high", unit.scale) for choice in choices],
            "why not sparser": [choice.message for choice in choices],
        }
    )


def _shown(choice: Choice, name: str, scale: int) -> float:
    """In the units of the table; NaN, which it leaves empty, for a layer that stays dense."""
    value = getattr(choice.row, name) if choice.row else None
    return math.nan if value is None else scale * value
