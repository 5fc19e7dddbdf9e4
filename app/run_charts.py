"""Two runs drawn against each other: each point at its value in A and in B."""

import altair as alt
import pandas as pd

from app.theme import GREY, AnyChart, colours, shapes


def scatter(joined: pd.DataFrame, by: str, metric: str) -> AnyChart:
    """Points above the line are better in B; coloured and shaped by the column `by`."""
    table = joined[joined["B - A"].notna()].copy()
    for name in ("value A", "value B", "B - A"):
        table[name] = 100 * pd.to_numeric(table[name])
    table["asked"] = 100 * table["sparsity"]
    kinds = list(dict.fromkeys(table[by].astype(str)))
    table[by] = table[by].astype(str)
    low = min(table["value A"].min(), table["value B"].min())
    high = max(table["value A"].max(), table["value B"].max())
    ends = pd.DataFrame({"value A": [low, high], "value B": [low, high]})
    x = alt.X("value A:Q", title=f"{metric} in A (%)", scale=alt.Scale(zero=False))
    y = alt.Y("value B:Q", title=f"{metric} in B (%)", scale=alt.Scale(zero=False))
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
                alt.Tooltip("value A:Q", title="A (%)", format=".2f"),
                alt.Tooltip("value B:Q", title="B (%)", format=".2f"),
                alt.Tooltip("B - A:Q", title="B - A (points)", format="+.2f"),
            ],
        )
    )  # fmt: skip
    return alt.layer(line, points).properties(height=420 + 22 * -(-len(kinds) // 3))
