"""The upper half of the Allocation page: every rule at one target, and where a layer empties."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from app import cache, export
from app.allocation_charts import all_bars, bars, radar
from app.allocation_rules import (
    LEAST_SHARE,
    LEAST_UNITS,
    Ruled,
    at_targets,
    mark_of,
    ruled,
    table_of,
)
from app.allocation_source import Outcome
from app.state import Frame
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.recipe import Recipe
from sparsity_core.units import loss_in

_TARGET = "alloc-target"
_LADDER = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)  # targets at which the radar looks ahead
_NAMED = 4  # layers that a warning lists; the heatmap has all
_LONG = 18  # characters of a layer's name, for which a panel needs more room
_ACROSS = 4  # panels side by side; a narrow screen stacks them


def choose_target(frame: Frame) -> float:
    """The share that every rule is asked to remove: the sidebar's, which is moved from here too."""
    fixed = frame.recipe.structure.fixed_sparsity
    if fixed is not None:
        st.caption(
            f"This structure has one sparsity, {100 * fixed:g} %: uneven rules cannot have it."
        )
        return fixed

    def hand_over() -> None:
        st.session_state["sparsity"] = st.session_state[_TARGET]

    st.session_state[_TARGET] = st.session_state["sparsity"]
    st.slider(
        "Target of every rule (%)", 0, 100, key=_TARGET, on_change=hand_over,
        help="The same as the sidebar's sparsity; rules share it out over layers.",
    )  # fmt: skip
    return float(st.session_state[_TARGET]) / 100


def draw_rules(model: str, rules: list[Ruled], python: str) -> None:
    """Small multiples: one panel a rule, or the reason why there is none."""
    table, counted_in = table_of(rules), loss_in(cache.task(model).loss)
    reason = "It goes by no target. Choose it in the sidebar, or drag a bar below for `manual`."
    named = {rule.name for rule in rules}
    rules = [
        *rules,
        *(Ruled(k, Outcome(Recipe(), reason=reason)) for k in ALLOCATIONS if k not in named),
    ]
    st.caption(
        "Sparsity of each layer in the model's order, the number achieved beside its bar; the "
        "dashed line is the target."
    )
    long_names = any(len(name) > _LONG for name in table["layer"]) if len(table) else False
    across = _ACROSS - long_names
    for first in range(0, len(rules), across):
        for column, rule in zip(st.columns(across), rules[first:], strict=False):
            with column:
                st.markdown(f"**{rule.name}**", help=ALLOCATIONS.describe(rule.name))
                if rule.reason:
                    st.info(rule.reason, icon=":material/block:")
                    continue
                own = table[table["rule"] == rule.name]
                st.vega_lite_chart(bars(own, _line(rule)), width="stretch", key=f"bars {rule.name}")
                st.caption(_totals(rule, counted_in))
    skipped = next((rule.outcome.skipped for rule in rules if not rule.reason), ())
    if skipped:
        some = "1 layer stays" if len(skipped) == 1 else f"{len(skipped)} layers stay"
        with st.expander(f"{some} dense, and no total counts them"):
            for name, why in skipped:
                st.caption(f"{name}: {why}")
    if len(table):
        export.offer(all_bars(table), table, f"allocations-{model}", python=python)


def draw_radar(
    frame: Frame, rules: list[Ruled], recipes: Mapping[str, Recipe], python: str
) -> None:
    """Where a rule empties a layer, or nearly: in words first, then layer by layer."""
    table = table_of(rules)
    if table.empty:
        return
    limits = (
        f"nearly emptied: keeps less than {100 * LEAST_SHARE:g} % of its weights or fewer than "
        f"{LEAST_UNITS} units"
    )
    flagged = table[table["mark"] != ""]
    if flagged.empty:
        text = f"No rule empties a layer at this target ({limits})."
        st.success(f"{text} {_further_out(frame, recipes)}", icon=":material/radar:")
    else:
        found = flagged.groupby("rule", sort=False)
        words = "\n".join(f"- **{rule}**: {_flagged(own)}" for rule, own in found)
        st.warning(f"Where a rule leaves next to nothing:\n{words}", icon=":material/radar:")
    with st.expander("Weights kept, layer by layer (%)", expanded=not flagged.empty):
        export.show(radar(table), table, f"radar-{frame.model}", python=python, key="radar")
        st.caption(
            f"Share of each layer's weights that is left. **×** emptied: no weight is left and "
            f"nothing passes but biases. **!** {limits}."
        )


def _further_out(frame: Frame, recipes: Mapping[str, Recipe]) -> str:
    """The first of some higher targets at which each rule marks a layer."""
    first = next(iter(recipes.values()))
    if first.structure.fixed_sparsity is not None:
        return ""
    ladder = ruled(frame, None, at_targets(recipes, [t for t in _LADDER if t > first.sparsity]))
    onset: dict[str, str] = {}
    for step in ladder or []:
        marked = [s.layer for s in step.outcome.shares if mark_of(s)]
        if marked and step.rule not in onset:
            onset[step.rule] = f"{step.rule} from {100 * step.outcome.recipe.sparsity:g} % on"
            onset[step.rule] += f" ({marked[0]})"
    if not onset:
        return ""
    return f"Further out some do: {', '.join(onset.values())}."


def _flagged(own: pd.DataFrame) -> str:
    parts = []
    for mark, layers in own.groupby("mark", sort=True)["layer"]:
        named = ", ".join(list(layers)[:_NAMED])
        more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
        parts.append(f"{mark}: {named}{more}")
    return "; ".join(parts)


def _line(rule: Ruled) -> float | None:
    """The target, where it is a share of weights."""
    recipe = rule.outcome.recipe
    return 100 * recipe.sparsity if recipe.allocation.budget == "weights" else None


def _totals(rule: Ruled, counted_in: str) -> str:
    outcome = rule.outcome
    asked = f"Asked {100 * outcome.recipe.sparsity:g} %"
    weights = f"{100 * outcome.total:.1f} % of weights"
    macs = f"{100 * outcome.total_macs:.1f} % of multiply-adds"
    match outcome.recipe.allocation.budget:
        case "macs":
            text = f"{asked}, achieved {macs}; {weights}"
        case "weights":
            text = f"{asked}, achieved {weights}; {macs}"
        case _:
            text = f"As given, whatever the target: {weights}; {macs}"
    return text + _forecast(rule, counted_in)


def _forecast(rule: Ruled, counted_in: str) -> str:
    if rule.forecast is None:
        return ""
    if rule.forecast.total is None:
        beyond = len(rule.forecast.unknown)
        return f"; no forecast, {beyond} layer{'s' if beyond > 1 else ''} beyond the sweep"
    return f"; forecast of the loss rise {rule.forecast.total:+.3f} {counted_in}"
