"""What all pages share: model, device and recipe, chosen in the sidebar and kept in the URL."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import cache
from app.forms import pick_structure
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.machine import DEVICES
from sparsity_core.recipe import Recipe
from sparsity_core.registry import Registry
from sparsity_core.scorers import SCORERS

# A manual allocation is a table of layers: it comes from the Sensitivity page, not from a list.
_ALLOCATIONS = [kind for kind in ALLOCATIONS if kind != "manual"]


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
        _warn_of_unknown("model", names)
        model = st.selectbox(
            "Model",
            names,
            index=names.index("digits-lenet") if "digits-lenet" in names else 0,
            format_func=lambda name: name if entries[name] is None else f"{name} (data absent)",
            key="model",
            bind="query-params",
        )
        if (reason := entries[model]) is not None:
            st.warning(f"**{model}** cannot be opened yet: {reason}")
        _warn_of_unknown("device", DEVICES)
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


def _choose_recipe() -> Recipe:
    scorer = _pick("Scorer", "scorer", SCORERS, SCORERS.kinds())
    structure = pick_structure()
    allocation = _pick("Allocation", "allocation", ALLOCATIONS, _ALLOCATIONS)
    fixed = structure.fixed_sparsity
    percent = st.slider(
        "Sparsity (%)",
        0,
        100,
        50,
        key="sparsity",
        bind="query-params",
        disabled=fixed is not None,
        help="Share of weights set to zero in the layers that the recipe prunes.",
    )
    if fixed is not None:
        st.caption(f"This structure always removes {fixed:.0%} of the weights.")
    return Recipe(
        sparsity=percent / 100 if fixed is None else fixed,
        scorer=SCORERS.make(scorer),
        structure=structure,
        allocation=ALLOCATIONS.make(allocation),
    )


def _pick(label: str, key: str, registry: Registry[Any], kinds: list[str]) -> str:
    _warn_of_unknown(key, kinds)
    return st.selectbox(
        label,
        kinds,
        key=key,
        bind="query-params",
        help="  \n".join(
            f"**{kind}**: {registry.describe(kind).splitlines()[0]}" for kind in kinds
        ),
    )


def _warn_of_unknown(key: str, known: object) -> None:
    """A link with a value that is not known gets the default, and a word about it."""
    given = st.query_params.get(key)
    if given is not None and given not in known:  # type: ignore[operator]
        st.warning(
            f"The link asks for {key} `{given}`, which is not known here; using the default."
        )
