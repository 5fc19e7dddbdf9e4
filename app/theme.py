"""Colours and shapes that colour-blind people can tell apart, on light and dark ground."""

import altair as alt

AnyChart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart

# Okabe & Ito 2008, without black and yellow, which vanish on one of the two grounds.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
# One more than colours, so that no two of 42 series share both.
SHAPES = (
    "circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right",
)  # fmt: skip
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 1])

GREY = "#8a8a8a"  # readable on white and on Streamlit's dark ground
HIGHLIGHT = "#D55E00"
SEQUENTIAL = "viridis"
DIVERGING = "purpleorange"


def colours(count: int) -> list[str]:
    """A colour for each of `count` series; they repeat, so a shape or dash must tell them too."""
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def shapes(count: int) -> list[str]:
    """A shape for each of `count` series, not in step with the colours once they repeat."""
    return [SHAPES[i % len(SHAPES)] for i in range(count)]


def dashes(count: int) -> list[list[int]]:
    """A dash for each of `count` series."""
    return [DASHES[i % len(DASHES)] for i in range(count)]
