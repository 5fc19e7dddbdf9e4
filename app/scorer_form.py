"""The choices of the Scorers page: two scorers, and which ones to compare with each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.about import question
from app.chosen_layer import pick_layer
from app.forms import warn_of_unknown
from app.scorer_source import BUDGET, SCORE_SAMPLES
from sparsity_core.allocations import Manual
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS, Scorer
from sparsity_core.structures import STRUCTURES

A, B = "scorer-a", "scorer-b"  # in the URL, and set by a click into the matrix


@dataclass(frozen=True)
class Pair:
    """The two scorers that are looked at closely."""

    a: str
    b: str

    @property
    def scorers(self) -> list[Scorer]:
        """Both, as the registry makes them."""
        return [SCORERS.make(self.a), SCORERS.make(self.b)]


def choose_layer_and_pair(layers: Sequence[str], recipe: Recipe) -> tuple[str, Pair]:
    """A layer, and scorers A and B: at first the sidebar's, and one that looks at data."""
    kinds = SCORERS.kinds()
    first = SCORERS.kind_of(recipe.scorer)
    other = next(k for k in kinds if SCORERS.make(k).needs_data and k != first)
    left, middle, right = st.columns(3)
    with left:
        layer = pick_layer(layers)
    return layer, Pair(_pick(middle, "A", A, first), _pick(right, "B", B, other))


def choose_compared() -> tuple[list[str], bool]:
    """The scorers of the matrix and of the trial, and whether to score them all at any price."""
    warn_of_unknown("scorers", SCORERS)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    chosen = left.multiselect(
        "Scorers compared", SCORERS.kinds(), key="scorers", bind="query-params",
        placeholder="all of them",
    )  # fmt: skip
    every = right.toggle(
        "Score all", key="scorers-all", bind="query-params",
        help=f"However long it takes: otherwise no more are started after {BUDGET:g} s. All score "
        f"on the same {SCORE_SAMPLES} train samples.",
    )  # fmt: skip
    return chosen or SCORERS.kinds(), every


def share_of(recipe: Recipe, layer: str) -> float:
    """How sparse the layer is looked at: as the recipe says, or says of this layer."""
    if isinstance(recipe.allocation, Manual):
        return dict(recipe.allocation.layers).get(layer, 0.0)
    return recipe.sparsity


def units_word(recipe: Recipe, units: int, weights: int) -> str:
    """What the structure decides on, for axes and captions."""
    return "weights" if units == weights else f"units ({STRUCTURES.label(recipe.structure)})"


def _pick(column: Any, letter: str, key: str, usual: str) -> str:
    warn_of_unknown(key, SCORERS)
    kinds = SCORERS.kinds()
    chosen: str = column.selectbox(
        f"Scorer {letter}", kinds, kinds.index(usual), key=key, bind="query-params",
        help=f"{question(SCORERS)} Or click a cell of the matrix.",
    )  # fmt: skip
    return chosen
