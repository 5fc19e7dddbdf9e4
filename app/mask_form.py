"""The choices of the Masks page: layer, view, and the recipe to compare with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.about import about, question
from app.forms import structures
from app.known_sweeps import with_curves
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.recipe import STAGES, Recipe
from sparsity_core.structures import STRUCTURES

MATRIX, FILTERS, LINES, COMPARED = "Weights", "Filters", "Rows and columns", "A against B"


@dataclass(frozen=True)
class Other:
    """The recipe to compare with, and the seed of its scores."""

    recipe: Recipe
    seed: int


def choose_recipes(model: str, base: Recipe) -> tuple[int, Other | None]:
    """The seed of the sidebar's recipe, and a second recipe when one is to be compared."""
    left, right = st.columns([1, 4], vertical_alignment="bottom")
    seed = left.number_input(
        "Seed of A", 0, 999, 0, key="mask-seed", bind="query-params",
        help="Decides the train samples that score, and random scores.",
    )  # fmt: skip
    compare = right.toggle(
        "Compare with a second recipe, B", key="mask-compare", bind="query-params"
    )
    return int(seed), _choose_other(model, base) if compare else None


def _choose_other(model: str, base: Recipe) -> Other:
    first, second, third, fourth, fifth = st.columns(5, vertical_alignment="bottom")
    scorer = _pick(first, "scorer", list(STAGES["scorer"]), "random")
    structure = _pick(second, "structure", structures(), "unstructured", free=True)
    kinds = [kind for kind in ALLOCATIONS if kind != "manual"]
    allocation = _pick(third, "allocation", kinds, "uniform")
    fixed = STRUCTURES.make(structure).fixed_sparsity
    percent = fourth.number_input(
        "Sparsity of B (%)", 0.0, 100.0, 100 * base.sparsity, 5.0, "%.1f", key="mask-sparsity",
        persist_state="session", disabled=fixed is not None,
    )  # fmt: skip
    seed = fifth.number_input("Seed of B", 0, 999, 0, key="mask-seed-b", bind="query-params")
    left, right = st.columns([1, 3], vertical_alignment="center")
    with left:
        about(*(STAGES[stage] for stage in ("scorer", "structure", "allocation")), key="masks")
    shuffled = right.checkbox(
        "Shuffled masks", key="mask-shuffled", bind="query-params",
        help="A control: as many weights as B keeps in each layer, but anywhere in it.",
    )  # fmt: skip
    recipe = Recipe(
        sparsity=percent / 100 if fixed is None else fixed,
        scorer=STAGES["scorer"].make(scorer),
        structure=STRUCTURES.make(structure),
        allocation=ALLOCATIONS.make(allocation),
        skip=base.skip,
        shuffled=shuffled,
    )
    return Other(with_curves(recipe, model), int(seed))


def choose_view(is_convolution: bool, compared: bool) -> str:
    """What to look at: one of the names above that fit the layer."""
    views = [MATRIX, *[FILTERS] * is_convolution, LINES, *[COMPARED] * compared]
    return str(
        st.segmented_control(
            "View",
            views,
            default=COMPARED if compared else MATRIX,
            required=True,
            key=f"mask-view {views}",
            persist_state="session",
            label_visibility="collapsed",
        )
    )


def choose_window(shape: Sequence[int], most: int) -> tuple[int, int]:
    """First row and column of the window of single weights; a clicked cell sets them too."""
    left, right = st.columns(2)
    return (
        _start(left, "First output", "mask-top", shape[0], most),
        _start(right, "First column", "mask-left", shape[1], most),
    )


def _start(column: Any, label: str, key: str, size: int, most: int) -> int:
    if size <= most:
        return 0
    last = size - most
    st.session_state[key] = min(st.session_state.get(key, 0), last)
    return int(column.slider(label, 0, last, key=key, help=f"{most} of {size} are shown."))


def _pick(column: Any, stage: str, options: list[str], usual: str, free: bool = False) -> str:
    chosen: str = column.selectbox(
        f"{stage.capitalize()} of B", options, options.index(usual), key=f"mask-{stage}",
        bind="query-params", accept_new_options=free, help=question(STAGES[stage]),
    )  # fmt: skip
    return chosen
