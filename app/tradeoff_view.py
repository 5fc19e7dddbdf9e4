"""The parts of the Trade-off page: what is planned, the curves, the numbers, what went wrong."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import cache, export
from app.curve_names import in_common, label, names
from app.curve_words import curve_command, curve_python
from app.known_sweeps import known_sweeps
from app.live import duration, words_to_start
from app.tradeoff_behaviour import draw_behaviour
from app.tradeoff_charts import AXES, curves, frame_of, summary
from sparsity_core.allocations import Manual, Sensitivity
from sparsity_core.comparison import lacks_interval
from sparsity_core.curve import CurvePlan
from sparsity_core.curve_estimate import seconds_of
from sparsity_core.curve_row import CurveResult
from sparsity_core.intervals import NO_INTERVAL
from sparsity_core.pace import Pace
from sparsity_core.recipe import STAGES
from sparsity_core.structures import STRUCTURES
from sparsity_core.units import unit_of
from sparsity_core.variants import BRIEF

_START = 5.0  # seconds until a worker has imported torch and loaded the task
_MOST = 12  # curves that colours and shapes still tell apart


def start_label(plan: CurvePlan, rows: Sequence[CurveResult]) -> tuple[int, str]:
    """How many points are new, and the words of the start button: new, stored, about how long."""
    stored = {row.point_id for row in rows if row.status != "failed"}
    new = [point for point in plan.points() if point.id not in stored]
    if not new:
        return 0, words_to_start("Run", 0, len(stored))
    task, pace = cache.task(plan.model), _guessed(plan)
    about = duration(_START + seconds_of(task, plan, new, rows, pace))
    return len(new), words_to_start("Run", len(new), len(stored), f"about {about}")


def _guessed(plan: CurvePlan) -> Pace:
    """By the time for one sample, which is there at once; a step goes forward and backward."""
    a_sample = cache.facts(plan.model).speed.whole
    return Pace(3 * BRIEF.batch_size * a_sample, len(cache.task(plan.model).validation) * a_sample)


def draw_plan(plan: CurvePlan) -> None:
    """Before a run: which recipes, and what to know of them."""
    names = [label(recipe) for recipe in plan.recipes if not recipe.training]
    title = f"{len(names)} recipe{'s' if len(names) > 1 else ''} will be compared"
    if len(plan.recipes) > len(names):
        title += ", each as pruned and fine-tuned"
    with st.expander(title, icon=":material/visibility:"):
        st.markdown("\n".join(f"- {name}" for name in names))
        for structure in {recipe.structure for recipe in plan.recipes}:
            fixed = structure.fixed_sparsity
            if fixed is None:
                continue
            text = (
                f"{STRUCTURES.label(structure)} has one sparsity, {fixed:.0%}; others are skipped."
            )
            if fixed not in plan.sparsities:
                text += f" Add {100 * fixed:g} to the sparsities, or it will show no point."
            st.caption(text)
        if any(isinstance(recipe.allocation, Manual) for recipe in plan.recipes):
            st.caption("manual gives each layer its own sparsity, so all its points coincide.")
        for text in _sweeps_behind(plan):
            st.caption(f"sensitivity goes by {text}.")


def _sweeps_behind(plan: CurvePlan) -> list[str]:
    """The sweeps whose curves the allocation `sensitivity` got."""
    guided = [recipe for recipe in plan.recipes if isinstance(recipe.allocation, Sensitivity)]
    return list(
        dict.fromkeys(sweep.text for r in guided for sweep in known_sweeps(plan.model, r)[:1])
    )


def draw_curves(plan: CurvePlan, rows: Sequence[CurveResult]) -> None:
    """Everything that is stored of a plan: chart, numbers, points without a sound number."""
    table = frame_of(rows, plan)
    axis = st.segmented_control(
        "Horizontal axis", list(AXES), default="Sparsity", required=True, key="curve-axis",
        bind="query-params",
    )  # fmt: skip
    shown = list(dict.fromkeys(names(plan).values()))
    if len(shown) > _MOST:
        shown = st.multiselect("Curves shown", shown, shown[:_MOST], key=f"curves of {plan.digest}")
    if table["value"].notna().any():
        export.show(
            curves(table, str(axis), plan, shown), table, f"trade-off-{plan.model}",
            command=curve_command(plan), python=curve_python(plan), key="curves",
        )  # fmt: skip
        _say_what_it_is(plan, rows)
        _draw_numbers(table, plan.setting.metric)
        draw_behaviour(plan, rows)
    else:
        st.info("None of the points could be measured; the reasons are below.")
    _draw_trouble(table)


def _say_what_it_is(plan: CurvePlan, rows: Sequence[CurveResult]) -> None:
    setting = plan.setting
    bars = "One seed; bars are the paired 95 % interval over samples, hung from the dense line."
    if len(plan.seeds) > 1:
        bars = (
            f"Lines join means over {len(plan.seeds)} seeds (small points); bars go from the "
            "lowest to the highest seed."
        )
    elif lacks_interval(rows):
        bars = f"One seed, {NO_INTERVAL}."
    notes = [
        f"{setting.metric.capitalize()} on {setting.samples:,} {setting.split} samples. {bars}",
        "Multiply-adds are a count, not a speed: no kernel here skips them.",
    ]
    if len(plan.recipes) > 1 and (common := in_common(plan)):
        notes.insert(0, f"All curves: {common}.")
    if any(recipe.structure.removes_outputs for recipe in plan.recipes):
        notes.append(
            "out-channel: zeroed channels are not yet removed ones; shapes stay, and a norm behind "
            "them still adds its shift."
        )
    st.caption(" ".join(notes))


def _draw_numbers(table: pd.DataFrame, metric: str) -> None:
    means, unit = summary(table), unit_of(metric)
    columns = {
        "curve": "recipe",
        "stage": "stage",
        "sparsity": "asked (%)",
        "achieved_sparsity": "achieved (%)",
        "compression": "compression (x)",
        "mac_share": "multiply-adds left (%)",
        "value": unit.title(metric),
        "deviation": "std. dev. over seeds",
        "drop": unit.drop,
        "seeds": "seeds",
    }
    if means["seeds"].max() == 1:  # one seed has no spread
        del columns["deviation"], columns["seeds"]
    st.subheader("Means over seeds" if "seeds" in columns else "Numbers")
    st.dataframe(_styled(means, columns, unit.precision), hide_index=True, placeholder="")
    with st.expander("Every point, with its paired 95 % interval over samples"):
        own = {
            **{name: name for name in STAGES},
            "repair": "repair",
            "stage": "stage",
            "seed": "seed",
            "sparsity": "asked (%)",
            "achieved_sparsity": "achieved (%)",
            "value": unit.title(metric),
            "drop": unit.drop,
            "drop_low": "95 % from",
            "drop_high": "95 % to",
            "samples": "samples",
            "split": "split",
            "status": "status",
            "message": "message",
        }
        st.dataframe(_styled(table, own, unit.precision), hide_index=True, placeholder="")


def _draw_trouble(table: pd.DataFrame) -> None:
    troubled = table[table["status"] != "ok"]
    if troubled.empty:
        return
    counts = ", ".join(f"{n} {status}" for status, n in troubled["status"].value_counts().items())
    drawn = " (crosses in the chart)" if table["value"].notna().any() else ""
    with st.expander(f"Points without a sound number: {counts}{drawn}"):
        columns = [*STAGES, "repair", "finetune_epochs", "sparsity", "seed", "status", "message"]
        st.dataframe(
            _styled(troubled, dict(zip(columns, columns, strict=True)) | {"sparsity": "asked (%)"}),
            hide_index=True,
            placeholder="",
        )


def _styled(table: pd.DataFrame, columns: dict[str, str], precision: int = 2) -> Any:
    return table[list(columns)].rename(columns=columns).style.format(precision=precision)
