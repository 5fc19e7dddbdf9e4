"""What all pages share: model, device and recipe, chosen in the sidebar and kept in the URL."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import cache, uploads
from app.about import about, question
from app.forms import (
    manual_text,
    pick_manual,
    pick_skip,
    pick_structure,
    warn_of_number,
    warn_of_unknown,
)
from sparsity_core.allocations import ALLOCATIONS, Manual
from sparsity_core.machine import DEVICES
from sparsity_core.recipe import Recipe
from sparsity_core.registry import Registry
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES


@dataclass(frozen=True)
class Frame:
    """The choices of the sidebar."""

    model: str
    device: str
    recipe: Recipe


def frame() -> Frame:
    """The sidebar's choices, for the page that is being drawn."""
    chosen: Frame = st.session_state["frame"]
    return chosen


def choose_frame() -> None:
    """Draw the sidebar and keep what it says; a link with known values reopens the same view."""
    entries = cache.models()
    names = list(entries)
    with st.sidebar:
        warn_of_unknown("model", names)
        model = st.selectbox(
            "Model",
            names,
            index=names.index("digits-lenet") if "digits-lenet" in names else 0,
            key="model",
            bind="query-params",
            format_func=uploads.label_of,
        )
        # Not in the list's own texts: they stand in the link, which may go to another machine.
        absent = [name for name, reason in entries.items() if reason is not None]
        if (reason := entries[model]) is not None:
            st.warning(f"**{model}** cannot be opened yet: {reason}")
        elif absent:
            st.caption(f"Data absent here, choose to see what to do: {', '.join(absent)}.")
        warn_of_unknown("device", DEVICES)
        device = st.selectbox(
            "Device",
            DEVICES,
            key="device",
            bind="query-params",
            help="`auto` takes the GPU when torch finds one.",
        )
        st.subheader("Recipe", help="How weights are chosen. All pages start from it.")
        recipe = _choose_recipe()
    st.session_state["frame"] = Frame(model, device, recipe)


def take_recipe(recipe: Recipe) -> None:
    """Put a recipe's choices into the sidebar; for callbacks, which run before it is drawn."""
    st.session_state["scorer"] = SCORERS.kind_of(recipe.scorer)
    st.session_state["structure"] = STRUCTURES.label(recipe.structure)
    st.session_state["allocation"] = ALLOCATIONS.kind_of(recipe.allocation)
    st.session_state["sparsity"] = round(100 * recipe.sparsity)
    st.session_state["skip"] = list(recipe.skip)
    if isinstance(recipe.allocation, Manual):
        st.session_state["manual"] = manual_text(recipe.allocation)


def _choose_recipe() -> Recipe:
    scorer = SCORERS.make(_pick("Scorer", "scorer", SCORERS))
    structure = pick_structure()
    kind = _pick("Allocation", "allocation", ALLOCATIONS)
    about(SCORERS, STRUCTURES, ALLOCATIONS, key="recipe")
    fixed = structure.fixed_sparsity
    warn_of_number("sparsity", 0, 100)
    percent = st.slider(
        "Sparsity (%)",
        0,
        100,
        50,
        key="sparsity",
        bind="query-params",
        disabled=fixed is not None or kind == "manual",
        help="Share of weights set to zero in the layers that the recipe prunes.",
    )
    if fixed is not None and kind != "manual":
        st.caption(f"This structure always removes {fixed:.0%} of the weights.")
    skip = pick_skip(structure)
    manual = pick_manual(kind == "manual")
    if kind == "manual":
        shares = [share for _, share in manual.layers]
        mean = sum(shares) / len(shares) if shares else 0.0
        return Recipe(mean, scorer, structure, manual, skip=skip)
    sparsity = percent / 100 if fixed is None else fixed
    return Recipe(sparsity, scorer, structure, ALLOCATIONS.make(kind), skip=skip)


def _pick(label: str, key: str, registry: Registry[Any]) -> str:
    warn_of_unknown(key, registry)
    chosen: str = st.selectbox(
        label, registry.kinds(), key=key, bind="query-params", help=question(registry)
    )
    return chosen
