"""The parts of the Sensitivity page: the choices, the look before, the results, the answer."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import cache, export
from app.reproduce import sweep_command, sweep_python
from app.sensitivity_charts import all_layers, frame_of, heatmap, one_layer
from app.state import Frame
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.choice import recipe_from, sparsest_within
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.sweep.point import Result
from sparsity_core.task import SPLITS

_STRUCTURES = ("unstructured", "out-channel", "in-channel", "2:4", "1:4", "4x4", "4x1")
_LEVELS = (10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 98, 99, 100)
_USUAL = (30, 50, 70, 80, 90, 95)


def choose_sweep(frame: Frame) -> SweepPlan:
    """The form of a sweep, starting from the frame's recipe; raises SparsityError for none."""
    layers = list(cache.facts(frame.model).layers)
    scorer = SCORERS.label(frame.recipe.scorer)
    structure = STRUCTURES.label(frame.recipe.structure)
    with st.expander("What to measure", expanded=True, icon=":material/tune:"):
        left, right = st.columns(2)
        scorers = left.multiselect(
            "Scorers", SCORERS.kinds(), list(dict.fromkeys([scorer, "random"])),
            key=f"scorers {scorer}", help="`random` is the control: a scorer has to beat it.",
        )  # fmt: skip
        structures = right.multiselect(
            "Structures", list(dict.fromkeys([structure, *_STRUCTURES])), [structure],
            accept_new_options=True, key=f"structures {structure}",
            help="Type others: `1:8` keeps 1 of 8 inputs, `8x1` is 8 outputs by 1 input.",
        )  # fmt: skip
        percents = left.multiselect(
            "Sparsities (%)", list(_LEVELS), list(_USUAL), key="levels", accept_new_options=True,
        )  # fmt: skip
        chosen = right.multiselect(
            "Layers", layers, [], key=f"layers {frame.model}", placeholder="all layers"
        )
        with st.popover("Samples and seeds"):
            split = st.selectbox(
                "Split that reports", SPLITS, index=1, key="split",
                help="Layers are chosen on validation; keep test for the final number.",
            )  # fmt: skip
            available = len(cache.task(frame.model).split(split))
            samples = st.number_input(
                f"Samples of it (of {available:,})", 1, available, min(available, 2000),
                key=f"samples {frame.model} {split}",
            )  # fmt: skip
            scoring = st.number_input("Train samples for scoring", 1, 100_000, 512, key="scoring")
            seeds = st.number_input("Seeds", 1, 20, 1, key="seeds")
    return cache.plan_of(
        frame.model,
        layers=chosen or ["all"],
        scorers=scorers,
        structures=structures,
        sparsities=[_share(p) for p in percents],
        seeds=list(range(int(seeds))),
        split=split,
        samples=int(samples),
        score_samples=int(scoring),
        device=frame.device,
    )


def dry_look(plan: SweepPlan, frame: Frame) -> None:
    """Before a run: which tensors are touched, which are shared, which are refused and why."""
    facts = cache.facts(frame.model)
    table, refused = [], 0
    for name in plan.layers:
        layer = facts.layers[name]
        reasons = {}
        for structure in plan.structures:
            reason = structure.fits(layer.shape, layer.groups)
            if not reason and not facts.uses[name]:
                reason = "is never used in the forward pass"
            if reason:
                reasons[STRUCTURES.label(structure)] = reason
        refused += len(reasons)
        table.append(
            {
                "layer": name,
                "shape": " x ".join(map(str, layer.shape)),
                "weights": layer.size,
                "shared with": ", ".join(layer.aliases),
                "refused": "; ".join(f"{label}: {why}" for label, why in reasons.items()),
            }
        )
    shared = sum(bool(row["shared with"]) for row in table)
    title = f"{len(table)} layers will be touched, one at a time"
    title += f"; {shared} shared" if shared else ""
    title += f"; {refused} layer-structure pairs refused" if refused else ""
    with st.expander(title, icon=":material/visibility:"):
        st.dataframe(pd.DataFrame(table), hide_index=True)
        fixed = [s for s in plan.structures if s.fixed_sparsity is not None]
        for structure in fixed:
            st.caption(
                f"{STRUCTURES.label(structure)} has one sparsity, {structure.fixed_sparsity:.0%}; "
                "other levels are recorded as skipped."
            )
        if any(s.removes_outputs for s in plan.structures):
            st.caption(
                "out-channel: channels are set to zero with their bias; they are not yet removed, "
                "and a norm behind them still adds its shift."
            )


def draw_results(plan: SweepPlan, rows: Sequence[Result]) -> None:
    """Curves, heatmap and table of one layer selection; whatever is clicked, the others follow."""
    if not rows:
        st.info("No point of this sweep is stored yet. Run it, or choose another model above.")
        return
    table = frame_of(rows)
    metric = plan.setting.metric
    ways = list(dict.fromkeys(table["way"]))
    way = st.pills("Scorer · structure", ways, default=ways[0], key=f"way {ways}") or ways[0]
    shown = table[table["way"] == way]
    selected = _selected(list(plan.layers))
    command, python = sweep_command(plan), sweep_python(plan)
    left, right = st.columns([3, 2])
    with left:
        st.subheader("All layers")
        if shown["value"].notna().any():
            event = export.show(
                all_layers(shown, selected, metric), shown, "layers",
                command=command, python=python, on_select=True,
            )  # fmt: skip
            _follow(event, "layer")
        else:
            st.info(f"No layer could be measured with {way} yet; the reasons are below.")
    with right:
        st.subheader("Loss in points")
        event = export.show(
            heatmap(shown, selected), shown, "heatmap",
            command=command, python=python, on_select=True,
        )  # fmt: skip
        _follow(event, "cell")
    st.subheader(f"{selected}, every scorer and structure")
    _pick_layer(list(plan.layers), selected)
    own = table[table["layer"] == selected]
    if own["value"].notna().any():
        export.show(one_layer(own, metric), own, "layer", command=command, python=python)
    with st.expander("Numbers of this layer: asked and achieved side by side"):
        st.dataframe(_numbers(own), hide_index=True)
    troubled = table[table["status"] != "ok"]
    if len(troubled):
        with st.expander(f"{len(troubled)} points without a sound number, and why"):
            st.dataframe(
                troubled[["layer", "scorer", "structure", "sparsity", "seed", "status", "message"]],
                hide_index=True,
            )


def draw_answer(plan: SweepPlan, rows: Sequence[Result]) -> None:
    """The sparsest setting of each layer within a chosen loss, and the recipe to take along."""
    if not rows:
        return
    st.subheader("How sparse may each layer be?")
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    allowed = left.number_input("Loss allowed (points)", 0.0, 100.0, 1.0, 0.5, key="allowed")
    ways = list(dict.fromkeys((row.scorer, row.structure) for row in rows))
    way = middle.selectbox("With", ways, format_func=" · ".join, key=f"with {ways}")
    cautious = right.toggle(
        "Cautious", key="cautious", help="The whole 95 % interval must stay within the loss."
    )
    chosen = [row for row in rows if (row.scorer, row.structure) == way]
    choices = sparsest_within(chosen, allowed / 100, cautious)
    st.dataframe(
        pd.DataFrame(
            {
                "layer": [c.layer for c in choices],
                "asked (%)": [100 * c.sparsity for c in choices],
                "achieved (%)": [_percent(c.row, "achieved_sparsity") for c in choices],
                "loss (points)": [_percent(c.row, "drop") for c in choices],
                "95 % up to": [_percent(c.row, "drop_high") for c in choices],
                "why not sparser": [c.message for c in choices],
            }
        ).style.format(precision=2, na_rep="dense"),
        hide_index=True,
    )
    st.caption(
        "Each layer was measured alone: together they cost more. "
        "Check the recipe as a whole on the Trade-off page, on the test split."
    )
    st.download_button(
        "Download as recipe (YAML)",
        recipe_from(choices, *way).to_yaml(),
        file_name=f"{plan.model.replace(':', '-')}-recipe.yaml",
        on_click="ignore",
        key="recipe",
    )


def _numbers(own: pd.DataFrame) -> Any:
    columns = {
        "scorer": "scorer",
        "structure": "structure",
        "sparsity": "asked (%)",
        "achieved_sparsity": "achieved (%)",
        "removed": "weights set to zero",
        "value": "value (%)",
        "drop": "loss (points)",
        "drop_low": "95 % from",
        "drop_high": "95 % to",
        "mark": "point",
        "seed": "seed",
        "status": "status",
        "message": "message",
    }
    return own[list(columns)].rename(columns=columns).style.format(precision=2, na_rep="")


def _selected(layers: list[str]) -> str:
    layer = st.session_state.get("layer")
    return layer if layer in layers else layers[0]


def _pick_layer(layers: list[str], selected: str) -> None:
    picked = st.selectbox(
        "Layer",
        layers,
        layers.index(selected),
        key=f"pick {selected}",
        label_visibility="collapsed",
    )
    _select(picked)


def _follow(event: Any, name: str) -> None:
    """Take over the layer that was clicked in a chart."""
    points = event["selection"].get(name) or []
    clicked = points[0]["layer"] if points else None
    if clicked != st.session_state.get(f"clicked {name}"):
        st.session_state[f"clicked {name}"] = clicked
        if clicked:
            _select(clicked)


def _select(layer: str) -> None:
    if layer != st.session_state.get("layer"):
        st.session_state["layer"] = layer
        st.rerun(scope="fragment")


def _share(percent: Any) -> float:
    try:
        return float(percent) / 100
    except ValueError:
        return float("nan")


def _percent(row: Result | None, name: str) -> float | None:
    value = getattr(row, name) if row else None
    return None if value is None else 100 * value
