"""Single classes and confidence drawn: sparse networks beside dense ones."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from app.theme import GREY, PALETTE, AnyChart

_MARKS = ((GREY, "circle"), (PALETTE[0], "square"))  # dense, sparse


def class_table(named: Mapping[str, Sequence[str]], classes: Sequence[str]) -> pd.DataFrame:
    """Accuracy of each class in per cent: mean, lowest and highest seed.

    `named` has the column `class_values` of each network, seed by seed.
    """
    lines = []
    for name, texts in named.items():
        values = pd.DataFrame([json.loads(text) for text in texts], dtype=float) * 100
        for label in values:
            own = values[label]
            text = classes[label] if label < len(classes) else str(label)
            lines.append((name, text, own.mean(), own.min(), own.max()))
    return pd.DataFrame(lines, columns=["network", "class", "accuracy", "low", "high"])


def reliability_table(named: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Bins of confidence with all seeds together, in per cent, from columns `reliability`."""
    lines = []
    for name, texts in named.items():
        for bins in zip(*map(json.loads, texts), strict=True):
            count = sum(each[0] for each in bins)
            if count:
                sure = sum(n * c for n, c, _ in bins if n) / count
                right = sum(n * a for n, _, a in bins if n) / count
                lines.append((name, count, 100 * sure, 100 * right))
    return pd.DataFrame(lines, columns=["network", "samples", "confidence", "accuracy"])


def _two(table: pd.DataFrame) -> dict[str, Any]:
    names = list(dict.fromkeys(table["network"]))
    legend = alt.Legend(orient="top", title=None)
    marks = _MARKS[: len(names)]
    return {
        "color": alt.Color(
            "network:N", sort=names, legend=legend,
            scale=alt.Scale(domain=names, range=[colour for colour, _ in marks]),
        ),
        "shape": alt.Shape(
            "network:N", sort=names, legend=legend,
            scale=alt.Scale(domain=names, range=[shape for _, shape in marks]),
        ),
    }  # fmt: skip


def class_chart(table: pd.DataFrame, samples: int) -> AnyChart:
    """Each class with a bar from the lowest to the highest seed, for both networks."""
    two = _two(table)
    order = list(dict.fromkeys(table["class"]))
    scale = alt.Scale(zero=False)
    base = alt.Chart(table).encode(
        alt.X("class:N", sort=order, title="class"),
        xOffset=alt.XOffset("network:N", sort=list(dict.fromkeys(table["network"]))),
    )
    tooltip = [
        "network:N",
        "class:N",
        *(alt.Tooltip(f"{c}:Q", format=".2f") for c in ("accuracy", "low", "high")),
    ]
    bars = base.mark_rule(strokeWidth=3, opacity=0.5).encode(
        alt.Y("low:Q", scale=scale), alt.Y2("high:Q"), two["color"]
    )
    title = f"accuracy in the class (%, {samples:,} samples in all)"
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        alt.Y("accuracy:Q", title=title, scale=scale), **two, tooltip=tooltip
    )
    return alt.layer(bars, points).properties(height=320)


def reliability_chart(table: pd.DataFrame) -> AnyChart:
    """Accuracy against confidence, both networks; the diagonal is calibrated."""
    domain = alt.Scale(domain=[0, 100])
    ends = pd.DataFrame({"confidence": [0, 100], "accuracy": [0, 100]})
    x = alt.X("confidence:Q", title="confidence (%, mean of the bin)", scale=domain)
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=domain)
    line = alt.Chart(ends).mark_line(color=GREY, strokeDash=[4, 4]).encode(x, y)
    tooltip = [
        "network:N",
        "samples:Q",
        *(alt.Tooltip(f"{c}:Q", format=".1f") for c in ("confidence", "accuracy")),
    ]
    points = (
        alt.Chart(table)
        .mark_point(filled=True, opacity=0.75)
        .encode(
            x, y, **_two(table), tooltip=tooltip,
            size=alt.Size("samples:Q", legend=None, scale=alt.Scale(type="sqrt", range=[20, 400])),
        )
    )  # fmt: skip
    return alt.layer(line, points).properties(height=360)
