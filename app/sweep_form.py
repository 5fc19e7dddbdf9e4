"""Which layers to prune, how and how far: from choices on screen to a sweep's plan."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import cache, live
from app.about import about, question
from app.answer_form import choose_engine, choose_question
from app.forms import folded, structures, warn_of_unknown
from app.state import Frame
from sparsity_core.scorers import SCORERS, Random
from sparsity_core.store import Store
from sparsity_core.structures import STRUCTURES, Structure
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.task import SPLITS

_LEVELS = (10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 98, 99, 100)
_USUAL = (30, 50, 70, 80, 90, 95)
_LONG = 60.0  # seconds: from here on an early answer is the better start
_START = 5.0  # seconds until a worker has imported torch and loaded the task


def choose_sweep(frame: Frame) -> SweepPlan:
    """The form of a sweep, starting from the frame's recipe; raises SparsityError for none."""
    recipe = frame.recipe
    start = f"{SCORERS.label(recipe.scorer)} · {STRUCTURES.label(recipe.structure)}"
    with folded("Choose what to measure"):
        st.caption(f"The sidebar's recipe is always there: **{start}**.")
        asked = choose_question(cache.task(frame.model).metric.name)
        left, right = st.columns(2)
        layers = list(cache.facts(frame.model).layers)
        for key, known in (("scorers", SCORERS.kinds()), ("layers", layers), ("split", SPLITS)):
            warn_of_unknown(f"sweep-{key}", known)
        scorers = left.multiselect(
            "Other scorers", SCORERS.kinds(), key="sweep-scorers", bind="query-params",
            help=question(SCORERS), placeholder="none",
        )  # fmt: skip
        control = left.checkbox(
            "Random control", True, key="sweep-random", bind="query-params",
            help="Random scores as well: what a scorer has to beat. In one layer alone they are "
            "the same as a shuffled mask.",
        )  # fmt: skip
        more = right.multiselect(
            "Other structures", structures(), key="sweep-structures", bind="query-params",
            accept_new_options=True, placeholder="none",
            help="Type others: `1:8` keeps 1 of 8 inputs, `8x1` is 8 outputs by 1 input.",
        )  # fmt: skip
        percents = left.multiselect(
            "Sparsities (%)", list(_LEVELS), list(_USUAL), key="sweep-levels", bind="query-params",
            accept_new_options=True,
        )  # fmt: skip
        chosen = right.multiselect(
            "Layers", layers, key="sweep-layers", bind="query-params", placeholder="all layers"
        )  # fmt: skip
        left, right = st.columns([1, 3])
        with left:
            seeds, where = _where(frame, asked is not None)
        with right:
            about(SCORERS, STRUCTURES, key="sweep")
    return cache.plan_of(
        frame.model,
        layers=chosen or ["all"],
        scorers=[recipe.scorer, *map(SCORERS.make, scorers), *[Random()] * control],
        structures=[recipe.structure, *map(STRUCTURES.make, more)],
        sparsities=[_share(percent) for percent in percents],
        seeds=range(seeds),
        device=frame.device,
        question=asked,
        **where,
    )


def _where(frame: Frame, early: bool) -> tuple[int, dict[str, Any]]:
    """How many seeds; the samples that report, those that score, and what measures them."""
    with st.popover("Samples, seeds, engine"):
        split = st.selectbox(
            "Split that reports", SPLITS, index=1, key="sweep-split", bind="query-params",
            help="Layers are chosen on validation; keep test for the final number.",
        )  # fmt: skip
        available = len(cache.task(frame.model).split(split))
        samples = st.number_input(
            f"Samples of it (of {available:,})", 1, available, min(available, 2000),
            key=f"sweep-samples {frame.model} {split}", bind="query-params",
        )  # fmt: skip
        scoring = st.number_input(
            "Train samples for scoring", 1, 100_000, 512, key="sweep-scoring", bind="query-params"
        )
        seeds = st.number_input(
            "Seeds", 1, 20, 1, key="sweep-seeds", bind="query-params",
            help="Other samples for scoring, other random scores. What depends on neither is "
            "measured once.",
        )  # fmt: skip
        engine = choose_engine(early)
    where = {"split": split, "samples": int(samples), "score_samples": int(scoring)}
    return int(seeds), where | engine


def dry_look(plan: SweepPlan) -> None:
    """Before a run: which tensors are touched, what goes with them, what is refused and why."""
    facts = cache.facts(plan.model)
    table, skipped = [], 0
    for name in plan.layers:
        layer = facts.layers[name]
        refused = {s: _refusal(plan, name, s) for s in plan.structures}
        outputs = any(s.removes_outputs and not refused[s] for s in plan.structures)
        skipped += sum(
            bool(refused[structure] or structure.refuses(sparsity))
            for structure in plan.structures
            for sparsity in plan.sparsities
        )
        table.append(
            {
                "layer": name,
                "shape": " x ".join(map(str, layer.shape)),
                "weights": layer.size,
                "tied to": ", ".join(layer.aliases),
                "goes with it": ", ".join(layer.biases) if outputs else "",
                "refused": "; ".join(
                    f"{STRUCTURES.label(structure)}: {why}"
                    for structure, why in refused.items()
                    if why
                ),
            }
        )
    skipped *= len({(point.scorer, point.seed) for point in plan.points()})
    one = len(table) == 1
    title = f"{'1 layer' if one else f'{len(table)} layers'} pruned, one at a time"
    title += f"; {skipped} points will be skipped" if skipped else ""
    with st.expander(title, icon=":material/visibility:"):
        look = pd.DataFrame(table)
        st.dataframe(look.loc[:, (look != "").any()], hide_index=True)
        for note in _notes(plan):
            st.caption(note)


def start_label(plan: SweepPlan, store: Store) -> tuple[int, str]:
    """How many points are new, and the words of the start button: new, stored, about how long.

    What takes long is advised against on the page.
    """
    points = plan.points()
    stored = store.statuses([point.id for point in points])
    missing = [point.id for point in points if stored.get(point.id, "failed") == "failed"]
    new = len(missing)
    if not new:
        return 0, live.words_to_start("Run", 0, len(points))
    seconds = _START + _seconds(plan, missing, store) / cache.workers()
    if plan.question is None and seconds > _LONG:
        st.caption(
            "This takes a while. Ask for an early answer first: with *Answer* in the form above at "
            "`drop over` most points need few samples, and any can be completed later."
        )
    about = live.duration(seconds)
    about = f"at most {about}" if plan.question else f"about {about}"
    return new, live.words_to_start("Run", new, len(points) - new, about)


def _seconds(plan: SweepPlan, missing: Sequence[str], store: Store) -> float:
    """Of one worker: as the stored points took; without any, what their work should take."""
    work = cache.work(plan) or {}
    known = {row.point_id: row.seconds for row in store.rows(plan) if row.value is not None}
    worked = sum(work[i] for i in known)
    pace = sum(known.values()) / worked if worked else 1.0
    return pace * sum(work[i] for i in missing)


def _refusal(plan: SweepPlan, name: str, structure: Structure) -> str:
    facts = cache.facts(plan.model)
    layer = facts.layers[name]
    if reason := structure.of(layer).fits(layer.shape, layer.groups):
        return reason
    return "" if facts.uses[name] else "is never used in the forward pass"


def _notes(plan: SweepPlan) -> list[str]:
    notes = [_engine_note(plan)]
    notes += [
        f"{STRUCTURES.label(structure)} has one sparsity, {structure.fixed_sparsity:.0%}; "
        "points at others are recorded as skipped."
        for structure in plan.structures
        if structure.fixed_sparsity is not None
    ]
    if any(structure.removes_outputs for structure in plan.structures):
        notes.append(
            "out-channel: channels are set to zero with their bias; they are not yet removed, "
            "and a norm behind them still adds its shift."
        )
    return notes


def _engine_note(plan: SweepPlan) -> str:
    setting = plan.setting
    if plan.engine == "reference":
        return "Engine reference: the whole model for each point; nothing is kept between layers."
    held = cache.held_bytes(
        plan.model, setting.model_digest, setting.split, setting.samples, plan.memory
    )
    return (
        f"Engine {plan.engine}: each worker keeps up to {held / 2**20:,.1f} MiB of what the dense "
        f"model has computed (at most {plan.memory / 2**20:,.0f} MiB allowed)."
    )


def _share(percent: Any) -> float:
    try:
        return float(percent) / 100
    except ValueError:  # what was typed is no number: the plan says so and how to write it
        return float("nan")
