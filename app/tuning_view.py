"""Fine-tune one recipe briefly on the Trade-off page: each step live, the best kept."""

from dataclasses import replace

import altair as alt
import pandas as pd
import streamlit as st

from app import cache, export
from app.curve_names import label
from app.fragment import redraw
from app.live import duration, warn_unsaved
from app.pace import pace
from app.state import Frame
from app.theme import PALETTE, AnyChart
from app.tuning_job import TuningJob, jobs, submit
from sparsity_core.curve import CurvePlan
from sparsity_core.machine import resolve_device
from sparsity_core.recipe import Recipe, Training
from sparsity_core.units import loss_in, unit_of


def draw_tuning(frame: Frame, plan: CurvePlan) -> None:
    """The form, the button with its time, and what has been seen so far."""
    st.subheader("Fine-tune one, step by step")
    recipes = [recipe for recipe in plan.recipes if not recipe.training]
    left, middle, right, far = st.columns([3, 1, 1, 1], vertical_alignment="bottom")
    bare = left.selectbox("Recipe", recipes, format_func=label, key="tuning-recipe")
    percent = middle.number_input("Sparsity (%)", 0.0, 100.0, 90.0, 5.0, key="tuning-sparsity")
    steps = right.number_input("Steps at most", 1, 100_000, 200, 50, key="tuning-steps")
    rate = far.number_input("Rate", 0.0, 1.0, 0.03, 0.005, "%.4f", key="tuning-rate")
    left, right, _ = st.columns([1, 1, 2], vertical_alignment="bottom")
    every = left.number_input("A look every", 1, 10_000, 10, key="tuning-every")
    patience = right.number_input(
        "Give up after looks", 0, 1000, 10, key="tuning-patience",
        help="Without a lower validation loss; 0 = go on to the last step.",
    )  # fmt: skip
    training = Training(steps=int(steps), rate=float(rate))
    recipe = replace(bare.at(percent / 100), training=training)
    key = f"{frame.model} {plan.device} {recipe.digest} {every} {patience}"
    job = jobs().get(key)
    if job is None or not job.active:
        about = _about(frame, training, int(every))
        again = "Fine-tune again" if job else "Fine-tune"
        if st.button(f"{again} ({about})", key="tune", icon=":material/play_arrow:"):
            device = resolve_device(frame.device)
            task = cache.task(frame.model)
            fresh = TuningJob(frame.model, task, recipe, int(every), int(patience) or None, device)
            submit(key, fresh)
            st.rerun()
    if job is not None:
        _follow(job, recipe)


def _about(frame: Frame, training: Training, every: int) -> str:
    future = pace(frame.model, training, resolve_device(frame.device))
    if not future.done():
        return "its time is being tried"
    assert training.steps is not None
    return f"at most about {duration(future.result().seconds(training.steps, every))} here"


def _follow(job: TuningJob, recipe: Recipe) -> None:
    active = job.active

    def look() -> bool:
        _draw(job, recipe)
        return job.active != active

    redraw(look, 0.5 if active else None)


def _draw(job: TuningJob, recipe: Recipe) -> None:
    if job.error:
        st.error(job.error)
    steps, best = list(job.steps), job.best
    if best is None:
        st.caption("Pruning ...")
        return
    total = recipe.training.steps if recipe.training else 0
    last = steps[-1].step
    left, right = st.columns([5, 1], vertical_alignment="center")
    if job.active:
        warn_unsaved(job.unsaved)
        left.progress(last / max(total or 1, 1), f"step {last:,} of {total:,}")
        right.button("Stop", key="tuning stop", on_click=job.stop)
    task = cache.task(job.model)
    metric, unit = task.metric.name, unit_of(task.metric.name)
    looks = [step.look for step in steps if step.look]
    ended = "" if job.active else f" Ended at step {last:,} of {total:,}."
    st.markdown(
        f"As pruned: {unit.said(looks[0].value)}. Best: **{unit.said(best.value)}** at step "
        f"{best.step:,} ({metric} on {len(task.validation):,} validation samples).{ended}"
    )
    table = table_of(job)
    left, right = st.columns(2)
    with left:
        name = f"fine-tune-loss-{job.model}"
        export.show(
            loss_chart(table, loss_in(task.loss)),
            table,
            name,
            key="tuning loss",
            python=_python(job),
        )
    with right:
        name = f"fine-tune-{job.model}"
        export.show(value_chart(table, metric), table, name, key="tuned", python=_python(job))
    if not job.active and job.tuning is not None and not job.error:
        st.download_button(
            "Download the best (safetensors)", job.best_file, f"{job.model}-tuned.safetensors",
            on_click="ignore", key="tuned file", icon=":material/download:",
        )  # fmt: skip


def table_of(job: TuningJob) -> pd.DataFrame:
    """One row a step: its loss; where there was a look also validation loss and metric."""
    scale = unit_of(cache.task(job.model).metric.name).scale
    return pd.DataFrame(
        [
            (s.step, s.loss, s.look and s.look.loss, s.look and scale * s.look.value)
            for s in list(job.steps)
        ],
        columns=["step", "loss", "validation_loss", "value"],
    ).astype(float)


def loss_chart(table: pd.DataFrame, counted_in: str) -> AnyChart:
    """The loss of every step, and that of the validation split where there was a look."""
    x = alt.X("step:Q", title="step")
    scale = alt.Scale(zero=False)
    names = ["each batch, solid", "validation, dashed"]
    colour = alt.Color(
        "line:N", legend=alt.Legend(title=None, orient="top", symbolOpacity=1),
        scale=alt.Scale(domain=names, range=[PALETTE[0], PALETTE[1]]),
    )  # fmt: skip
    each = (
        alt.Chart(table[table["loss"].notna()].assign(line=names[0]))
        .mark_line(strokeWidth=1, opacity=0.9)
        .encode(
            x,
            alt.Y("loss:Q", title=f"loss ({counted_in})", scale=scale),
            colour,
            tooltip=["step:Q", alt.Tooltip("loss:Q", format=".4~f")],
        )
    )
    mark = alt.OverlayMarkDef(color=PALETTE[1], shape="square")
    valid = (
        alt.Chart(table[table["value"].notna()].assign(line=names[1]))
        .mark_line(point=mark, strokeDash=[6, 3])
        .encode(
            x,
            alt.Y("validation_loss:Q", scale=scale),
            colour,
            tooltip=["step:Q", alt.Tooltip("validation_loss:Q", format=".4~f")],
        )
    )
    return alt.layer(each, valid).properties(height=300)


def value_chart(table: pd.DataFrame, metric: str) -> AnyChart:
    """The metric of the validation split at each look."""
    unit = unit_of(metric)
    title = unit.title(f"validation {metric}")
    return (
        alt.Chart(table[table["value"].notna()])
        .mark_line(point=alt.OverlayMarkDef(color=PALETTE[2]), color=PALETTE[2])
        .encode(
            alt.X("step:Q", title="step"),
            alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            tooltip=["step:Q", alt.Tooltip("value:Q", title=title, format=unit.value)],
        )
        .properties(height=300)
    )


def _python(job: TuningJob) -> str:
    return f"""from sparsity_core.recipe import Recipe
from sparsity_core.task import load_task
from sparsity_core.tuning import Tuning

task = load_task({job.model!r})
recipe = Recipe.from_dict({job.recipe.to_dict()!r})
tuning = Tuning(task, recipe, every={job.every}, patience={job.patience}, device={job.device!r})
steps = list(tuning)
print(tuning.best)  # its weights: tuning.best_state"""
