"""Two runs drawn against each other: each point at its value in A and in B."""

import altair as alt
import pandas as pd

from app.theme import GREY, AnyChart, colours, shapes
from sparsity_core.units import PER_CENT, unit_of


def scatter(joined: pd.DataFrame, by: str, metric: str) -> AnyChart:
    """Each point at its value in A and in B, above the line where B's is higher.

    Coloured and shaped by the column `by`.
    """
    unit = unit_of(metric)
    table = joined[joined["B - A"].notna()].copy()
    for name in ("value A", "value B", "B - A"):
        table[name] = unit.scale * pd.to_numeric(table[name])
    table["asked"] = 100 * table["sparsity"]
    difference = "B - A (points)" if unit is PER_CENT else "B - A"
    kinds = list(dict.fromkeys(table[by].astype(str)))
    table[by] = table[by].astype(str)
    low = min(table["value A"].min(), table["value B"].min())
    high = max(table["value A"].max(), table["value B"].max())
    ends = pd.DataFrame({"value A": [low, high], "value B": [low, high]})
    x = alt.X("value A:Q", title=unit.title(f"{metric} in A"), scale=alt.Scale(zero=False))
    y = alt.Y("value B:Q", title=unit.title(f"{metric} in B"), scale=alt.Scale(zero=False))
    legend = alt.Legend(orient="bottom", columns=3, title=by, labelLimit=200)
    line = alt.Chart(ends).mark_line(color=GREY, strokeDash=[4, 4]).encode(x, y)
    points = (
        alt.Chart(table)
        .mark_point(filled=True, size=70, opacity=0.9)
        .encode(
            x,
            y,
            alt.Color(
                f"{by}:N", sort=kinds, legend=legend,
                scale=alt.Scale(domain=kinds, range=colours(len(kinds))),
            ),
            alt.Shape(
                f"{by}:N", sort=kinds, legend=legend,
                scale=alt.Scale(domain=kinds, range=shapes(len(kinds))),
            ),
            tooltip=[
                alt.Tooltip(f"{by}:N"),
                alt.Tooltip("asked:Q", title="sparsity asked (%)", format=".1f"),
                alt.Tooltip("value A:Q", title=unit.title("A"), format=unit.value),
                alt.Tooltip("value B:Q", title=unit.title("B"), format=unit.value),
                alt.Tooltip("B - A:Q", title=difference, format=unit.signed),
            ],
        )
    )  # fmt: skip
    return alt.layer(line, points).properties(height=420 + 22 * -(-len(kinds) // 3))
