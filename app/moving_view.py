"""The parts of the Moving masks page: what is trained, curves, costs, closer views, trouble."""

import json
from collections.abc import Callable

import pandas as pd
import streamlit as st

from app import export, uploads
from app.moving_charts import against_cost, by_step, drift_chart, frame_of, layer_drift
from app.moving_source import Experiment
from app.moving_words import words_of
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.dynamic.plan import MovingPlan

_EXECUTION = {
    "simulated": "**Simulated**: products are dense with masked weights; costs are counts, and no "
    "time is saved.",
    "sparse": "**Sparse**: forward, backward and optimizer hold live weights alone.",
}


def draw_moving(experiment: Experiment) -> None:
    """Everything that is there of an experiment but its film, finished or not."""
    table = frame_of(experiment.rows)
    if table.empty or table["validation_value"].isna().all():
        st.info("No point of this plan is stored yet; the first appears here.")
        return
    plan, setting = experiment.plan, experiment.plan.setting
    words = words_of(plan)
    above, beside = st.columns(2, vertical_alignment="center")  # so that both charts begin level
    left, right = st.columns(2)
    whole = above.toggle("From the first step", key="moving-whole")
    beside.markdown(_EXECUTION[plan.execution])
    samples = next((r.samples for r in experiment.rows if r.samples and r.split == "validation"), 0)
    with left:
        title = f"{setting.metric} (%, {samples:,} validation samples)"
        chart = by_step(table, "validation_value", title, from_start=whole)
        export.show(chart, table, "moving-accuracy", key="moving accuracy", **words)
    with right:
        if table["value"].notna().any():
            chart = against_cost(table, setting.metric, setting.samples, setting.split)
            export.show(chart, table, "moving-cost", key="moving cost", **words)
        else:
            st.info("What networks reach for their cost appears when the first is trained.")
    st.caption(_setting(plan))
    _draw_ends(table, setting.metric, setting.split)
    shown = st.segmented_control(
        "A closer look", list(_VIEWS), default=next(iter(_VIEWS)), required=True,
        key="moving-view", bind="query-params",
    )  # fmt: skip
    _VIEWS[str(shown)](experiment, table)
    _draw_trouble(experiment)


def _setting(plan: MovingPlan) -> str:
    training = plan.training
    moving = next((r for r in plan.rules if hasattr(r, "drop") and hasattr(r, "until")), None)
    how = ""
    if moving is not None:
        how = (
            f" Masks move every {getattr(moving, 'every', 0)} steps until "
            f"{getattr(moving, 'until', 1):.0%} of the training, at first {moving.drop:.0%} of the "
            "live weights."
        )
    shares = ", ".join(f"{100 * s:.4g} %" for s in plan.sparsities)
    seeds = "One seed."
    if len(plan.seeds) > 1:
        several = f"Means over {len(plan.seeds)} seeds"
        seeds = f"{several}, bands and bars from the lowest to the highest."
    return (
        f"{uploads.in_words(plan.model)}: {plan.steps:,} steps of {training.optimizer} each "
        f"(rate {training.rate:g}, batch {training.batch_size}, decay {training.weight_decay:g}), "
        f"sparsity {shares} by {ALLOCATIONS.kind_of(plan.allocation)}.{how} {seeds} "
        "Costs count multiply-adds as Evci et al. 2020 do."
    )


def _draw_ends(table: pd.DataFrame, metric: str, split: str) -> None:
    last = table[table["value"].notna()]
    if last.empty:
        return
    columns = {
        "value": f"{split} {metric} (%)",
        "achieved_sparsity": "sparsity (%)",
        "training_cost": "training (% of dense)",
        "inference_cost": "inference (% of dense)",
        "explored": "ever live (%)",
        "ablated": "ablated neurons",
    }
    shown = last.groupby("series", sort=False)[list(columns)].mean(numeric_only=True)
    spread = last.groupby("series", sort=False)["value"].agg(["min", "max", "count"])
    shown.insert(1, "seeds", [f"{a:.2f} to {b:.2f} ({n:.0f})" for a, b, n in spread.to_numpy()])
    shown = shown.rename(columns=columns | {"seeds": "lowest to highest (seeds)"})
    style = shown.style.format(precision=2).format(precision=1, subset=["ablated neurons"])
    st.dataframe(style, placeholder="")


def _draw_explored(experiment: Experiment, table: pd.DataFrame) -> None:
    title = "weights that ever lived (% of all, log axis)"
    words = words_of(experiment.plan)
    export.show(
        by_step(table, "explored", title, from_start=True, log=True),
        table,
        "moving-explored",
        **words,
    )
    st.caption(
        "In-time over-parameterisation (Liu et al. 2021): how much of the dense network a sparse "
        "one has tried. A mask that never moves stays at its own share."
    )


def _draw_drift(experiment: Experiment, table: pd.DataFrame) -> None:
    left, right = st.columns(2)
    series = list(dict.fromkeys(table["series"]))
    usual = next((i for i, name in enumerate(series) if name.startswith("rigl")), len(series) - 1)
    chosen = left.selectbox("Rule", series, usual, key=f"drift {series}")
    own = table[table["series"] == chosen]
    seed = right.selectbox("Seed", sorted(set(own["seed"])), key=f"drift seed {chosen}")
    own = own[own["seed"] == seed]
    ids = set(own["point_id"])
    sizes = _sizes(experiment)
    if not sizes:
        st.info("Its film is not here, so the sizes of the layers are not known.")
        return
    drift = layer_drift([row for row in experiment.rows if row.point_id in ids], sizes)
    words = words_of(experiment.plan)
    export.show(drift_chart(drift), drift, "moving-drift", **words)
    st.caption(
        "Most rules keep the count of each layer; sparse momentum, AC/DC and learned thresholds "
        "move weights between layers."
    )


def _sizes(experiment: Experiment) -> dict[str, int]:
    """Weights of each layer, from the dense network, in which all of them live."""
    dense = next((row for row in experiment.rows if row.rule == "dense" and row.layers), None)
    if dense is None:
        return {}
    found: dict[str, int] = json.loads(dense.layers)
    return found


def _draw_numbers(_: Experiment, table: pd.DataFrame) -> None:
    names = (
        *("series", "seed", "step", "validation_value", "value", "validation_loss", "train_loss"),
        *("achieved_sparsity", "training_cost", "explored", "born", "died", "returned", "ablated"),
    )
    st.dataframe(table[list(names)], hide_index=True, placeholder="")
    st.caption("Shares in per cent, losses in nats; born, died and returned since the look before.")


def _draw_trouble(experiment: Experiment) -> None:
    troubled = [row for row in experiment.rows if row.status != "ok"]
    if troubled:
        with st.expander(f"Looks without a sound number: {len(troubled)}"):
            names = ("rule", "sparsity", "seed", "step", "status", "message")
            table = pd.DataFrame([{n: getattr(row, n) for n in names} for row in troubled])
            st.dataframe(table, hide_index=True)


_VIEWS: dict[str, Callable[[Experiment, pd.DataFrame], None]] = {
    "Ever live": _draw_explored,
    "Layers": _draw_drift,
    "Numbers": _draw_numbers,
}
