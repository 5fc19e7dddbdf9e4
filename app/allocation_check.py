"""Forecasts beside the truth: the allocation in hand, and every rule at several targets."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import cache, export, live
from app.allocation_charts import additivity, dumbbell
from app.allocation_rules import Ruled
from app.curve_words import curve_command, curve_python
from app.forms import warn_of_unknown
from app.known_sweeps import Sweep
from app.state import Frame
from app.tradeoff_view import start_label
from sparsity_core.curve import CurvePlan, plan_curve
from sparsity_core.curve_row import CurveResult
from sparsity_core.intervals import NO_INTERVAL
from sparsity_core.recipe import Recipe
from sparsity_core.store import Store
from sparsity_core.units import loss_in, unit_of

HAND = "in hand"
WIDTHS = (2, 3)  # of the two columns
_TARGETS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
_USUAL = (30, 50, 60, 70, 80)


def choose_targets(frame: Frame) -> list[float]:
    """The targets at which every rule is checked."""
    fixed = frame.recipe.structure.fixed_sparsity
    if fixed is not None:
        return [fixed]
    warn_of_unknown("alloc-targets", map(str, _TARGETS))
    chosen = st.multiselect(
        "Targets to check every rule at (%)", list(_TARGETS), list(_USUAL),
        key="alloc-targets", bind="query-params",
    )  # fmt: skip
    return [percent / 100 for percent in chosen]


def check_plan(
    frame: Frame, recipes: Sequence[Recipe], targets: Sequence[float], sweep: Sweep | None
) -> CurvePlan:
    """The true joint loss of recipes at targets, on the samples that the forecast stands on."""
    task = cache.task(frame.model)
    return plan_curve(
        task,
        recipes=recipes,
        sparsities=targets,
        split=sweep.split if sweep else "validation",
        samples=sweep.samples if sweep else min(2000, len(task.validation)),
        device=frame.device,
    )


def able(rules: Sequence[Ruled]) -> list[Recipe]:
    """The recipes that can be had at one target at least."""
    return [rule.outcome.recipe for rule in rules if not rule.reason]


def offer(plan: CurvePlan, store: Store, what: str, key: str) -> None:
    """A button that measures a plan."""
    new, label = start_label(plan, store.rows(plan))
    live.start_button(plan, new, f"{what}: {label[0].lower()}{label[1:]}", key=key)


def compared(rules: Sequence[Ruled], rows: Sequence[CurveResult]) -> pd.DataFrame:
    """One row a measured recipe: forecast, truth with its interval, and what is to be known."""
    by_digest = {row.recipe: row for row in rows}
    found: list[dict[str, Any]] = []
    for rule in rules:
        row = by_digest.get(rule.outcome.recipe.digest)
        if row is None:
            continue
        forecast = rule.forecast
        unknown = [f"{n}: {why}" for n, why in forecast.unknown.items()] if forecast else []
        found.append(
            {
                "name": rule.name,
                "rule": rule.rule,
                "target": 100 * row.sparsity,
                "achieved": _percent(row.achieved_sparsity),
                "forecast": forecast.total if forecast else None,
                "measured": row.loss_rise,
                "low": row.loss_rise_low,
                "high": row.loss_rise_high,
                "drop": None if row.drop is None else unit_of(row.metric).scale * row.drop,
                "samples": row.samples,
                "split": row.split,
                "status": row.status,
                "message": "; ".join(filter(None, [row.message, *unknown])),
            }
        )
    table = pd.DataFrame(found)
    for column in ("forecast", "measured", "low", "high", "drop", "achieved"):
        if found:
            table[column] = pd.to_numeric(table[column])
    return table


def draw_truth(plan: CurvePlan, table: pd.DataFrame) -> None:
    """Forecast and truth side by side: the allocation in hand, below it what rules do."""
    own = table[table["rule"] == HAND] if len(table) else table
    if own.empty:
        st.info("Not measured yet. Run it: the truth appears here, beside the forecast.")
    drawn = table[table["measured"].notna()] if len(table) else table
    if len(drawn):
        words: dict[str, Any] = {"command": curve_command(plan), "python": curve_python(plan)}
        chart = dumbbell(drawn, plan.setting, loss_in(cache.task(plan.model).loss))
        export.show(chart, drawn, f"forecast-{plan.model}", **words)
    if len(own):
        _say_truth(plan, own.iloc[0])


def _say_truth(plan: CurvePlan, row: Any) -> None:
    if pd.isna(row["measured"]):
        st.warning(f"{row['status']}: {row['message']}")
        return
    unit, counted_in = unit_of(plan.setting.metric), loss_in(cache.task(plan.model).loss)
    between = f"paired 95 %: {row['low']:+.3f} to {row['high']:+.3f}"
    bounded = pd.notna(row["low"])
    text = (
        f"Measured {row['measured']:+.3f} {counted_in} ({between if bounded else NO_INTERVAL}), "
        f"{plan.setting.metric} gets worse by "
        f"{unit.change(row['drop'] / unit.scale)}, "
        f"{row['samples']:,} {row['split']} samples."
    )
    if bounded and pd.notna(row["forecast"]):
        inside = row["low"] <= row["forecast"] <= row["high"]
        text += (
            f" The forecast of {row['forecast']:+.3f} is {'inside' if inside else 'outside'} that "
            "interval."
        )
    if row["status"] != "ok":
        text += f" **{row['status']}**: {row['message']}"
    st.caption(text)


def draw_additivity(plan: CurvePlan, table: pd.DataFrame) -> None:
    """All measured rules and targets: do the losses of single layers add up?"""
    st.caption(
        "Each point is a rule at a target. On the line, layers pruned together cost what they "
        "cost alone, as every sensitivity-guided rule assumes; above it they cost more."
    )
    if table.empty:
        st.info("No rule is measured at these targets yet. Run the check: the points appear here.")
        return
    sound = table[(table["status"] == "ok") & table["forecast"].notna()]
    if len(sound):
        words: dict[str, Any] = {"command": curve_command(plan), "python": curve_python(plan)}
        chart = additivity(sound, plan.setting, loss_in(cache.task(plan.model).loss))
        export.show(chart, table, f"additivity-{plan.model}", **words)
        st.caption(_summary(sound, len(table)))
    else:
        st.info("None of the measured points has a forecast; the reasons are below.")
    rest = table.drop(sound.index)
    if len(rest):
        with st.expander(f"{len(rest)} measured points without a sound pair"):
            columns = ["rule", "target", "forecast", "measured", "status", "message"]
            st.dataframe(rest[columns].style.format(precision=3), hide_index=True, placeholder="")


def _summary(sound: pd.DataFrame, measured: int) -> str:
    inside = ((sound["low"] <= sound["forecast"]) & (sound["forecast"] <= sound["high"])).sum()
    above = (sound["measured"] > sound["forecast"]).sum()
    text = (
        f"{len(sound)} of {measured} measured points have a forecast. It lies inside the measured "
        f"95 % interval for {inside} of them; {above} lose more than forecast (above the line)."
    )
    if len(sound) > 2 and sound["forecast"].nunique() > 1 and sound["measured"].nunique() > 1:
        order = sound["forecast"].corr(sound["measured"], method="spearman")
        text += f" Rank correlation (Spearman): {order:.2f}, 1 = the forecast orders them rightly."
    return text


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
