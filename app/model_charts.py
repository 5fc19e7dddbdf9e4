"""A model drawn: how a layer's weights are spread."""

import altair as alt
import numpy as np
import pandas as pd

from app.theme import HIGHLIGHT, PALETTE, AnyChart


def bins_for(count: int) -> int:
    """How many bins a histogram of so many weights gets; odd, so that one is centred on zero."""
    return 2 * min(30, max(5, round(count**0.5))) + 1


def weight_histogram(weights: np.ndarray, logarithmic: bool) -> tuple[AnyChart, pd.DataFrame]:
    """How many finite weights have which value; the bin that holds zero is marked."""
    weights = weights[np.isfinite(weights)]
    limit = float(np.abs(weights).max(initial=0.0)) or 1.0
    counts, edges = np.histogram(weights, bins_for(weights.size), (-limit, limit))
    table = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "weights": counts})
    table["holds"] = np.where((table["from"] <= 0) & (table["to"] > 0), "zero", "other values")
    shown = table[table["weights"] > 0] if logarithmic else table
    scale = alt.Scale(type="log", domainMin=0.5) if logarithmic else alt.Scale(zero=True)
    y = alt.Y("weights:Q", title="number of weights", scale=scale)
    base = alt.Chart(shown)
    bars = base.mark_bar(stroke=None).encode(
        alt.X("from:Q", bin="binned", title="weight", axis=alt.Axis(format=".2~g")),
        alt.X2("to:Q"),
        y,
        alt.Color(
            "holds:N",
            scale=alt.Scale(domain=["other values", "zero"], range=[PALETTE[0], HIGHLIGHT]),
            legend=alt.Legend(orient="top", title="bin that holds"),
        ),
        tooltip=[
            alt.Tooltip("from:Q", format=".3g"),
            alt.Tooltip("to:Q", format=".3g"),
            alt.Tooltip("weights:Q", format=","),
        ],
    )
    if logarithmic:
        bars = bars.encode(y2=alt.datum(0.5))
    return bars.properties(height=260), table
