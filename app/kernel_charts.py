"""Times of kernels drawn: bars with quantiles, speedup against sparsity, roofline, storage."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import altair as alt
import pandas as pd

from app.theme import GREY, AnyChart, colours, dashes, shapes
from sparsity_core.kernels import KERNELS
from sparsity_core.kernels.break_even import break_even
from sparsity_core.kernels.row import KernelRow
from sparsity_core.kernels.words import is_dense

_ROW = 30  # pixels a bar, of which Streamlit takes some for the axis and the legend
_HEIGHT = 340


def frame_of(rows: Sequence[KernelRow]) -> pd.DataFrame:
    """Measured rows as a table for charts: per cent, and what follows from several columns."""
    table = pd.DataFrame([asdict(row) for row in rows if row.p50 is not None])
    if table.empty:
        return table
    table["zeros"] = 100 * table["sparsity"]
    table["of_limit"] = 100 * table["limit_fraction"]
    table["intensity"] = table["multiply_adds"] / table["moved"]
    table["rate"] = table["multiply_adds"] / table["p50"] / 1e3  # G a second
    table["kib"] = table["bytes"] / 1024
    table["what"] = ["dense" if is_dense(kernel) else "sparse" for kernel in table["kernel"]]
    table["label"] = [
        f"{us:.3g} µs, {x:.1f}x"
        for us, x in zip(table["p50"], table["speedup_vs_dense"], strict=True)
    ]
    return table


def bars(table: pd.DataFrame, noise: float) -> AnyChart:
    """Microseconds of each kernel in one setting, 20 to 80 % of the calls as a line.

    The band is the quickest float32 dense within the noise of the machine.
    """
    best = table["p50"].min() if (table["what"] == "sparse").all() else _best(table)
    order = table.sort_values("p50")["kernel"].tolist()
    low = 0.7 * float(table["p20"].min())
    scale = alt.Scale(type="log", nice=False, domain=[low, 2.2 * float(table["p80"].max())])
    y = alt.Y("kernel:N", sort=order, title=None, axis=alt.Axis(labelLimit=200, labelOverlap=False))
    x = alt.X("p50:Q", title="microseconds a call (log axis)", scale=scale)
    base = alt.Chart(table).encode(y)
    band = pd.DataFrame([{"from": best / (1 + noise), "to": best * (1 + noise), "best": best}])
    colour = alt.Color(
        "what:N",
        scale=alt.Scale(domain=["dense", "sparse"], range=[GREY, colours(1)[0]]),
        legend=alt.Legend(title=None, orient="top"),
    )
    return alt.layer(
        alt.Chart(band)
        .mark_rect(color=GREY, opacity=0.3)
        .encode(alt.X("from:Q", scale=scale), alt.X2("to:Q")),
        base.mark_bar(height=_ROW * 0.6).encode(x, alt.X2(datum=low), colour, tooltip=_TOOLTIP),
        base.mark_rule(strokeWidth=3, opacity=0.9, color="#D55E00").encode(
            alt.X("p20:Q", scale=scale), alt.X2("p80:Q")
        ),
        base.mark_text(align="left", dx=6, color=GREY).encode(
            alt.X("p80:Q", scale=scale), alt.Text("label:N")
        ),
    ).properties(height=max(4, len(order)) * _ROW + 60)


def speedups(table: pd.DataFrame, rows: Sequence[KernelRow], noise: float) -> AnyChart:
    """Speedup over the quickest float32 dense against sparsity, for one batch and cache.

    Diamonds on the line at 1: where a kernel breaks even.
    """
    lines = table[~table["kernel"].isin([k for k in set(table["kernel"]) if _float_dense(k)])]
    kinds = [kind for kind in KERNELS if kind in set(lines["kernel"])]
    x = alt.X("zeros:Q", title="zeros in the weight (%)", scale=alt.Scale(domain=[0, 100]))
    y = alt.Y(
        "speedup_vs_dense:Q", title="times as fast as dense (log axis)", scale=alt.Scale(type="log")
    )
    colour, shape, dash = _by_kernel(kinds)
    base = alt.Chart(lines).encode(x, y, colour)
    found = [
        {"kernel": kernel, "zeros": 100 * share, "speedup_vs_dense": 1.0}
        for (kernel, _, _), share in break_even(rows).items()
        if share is not None and kernel in kinds and share > _lowest(lines, kernel)
    ]
    band = pd.DataFrame([{"from": 1 / (1 + noise), "to": 1 + noise, "left": 0, "right": 100}])
    layers: list[AnyChart] = [
        alt.Chart(band)
        .mark_rect(color=GREY, opacity=0.3)
        .encode(alt.X("left:Q"), alt.X2("right:Q"), alt.Y("from:Q"), alt.Y2("to:Q")),
        alt.Chart(band).mark_rule(color=GREY).encode(y=alt.datum(1)),
        base.mark_line(strokeWidth=2).encode(dash),
        base.mark_point(filled=True, size=60, opacity=1).encode(shape, tooltip=_TOOLTIP),
    ]
    if found:
        layers.append(
            alt.Chart(pd.DataFrame(found))
            .mark_point(shape="diamond", size=170, strokeWidth=2.5, filled=False, opacity=1)
            .encode(
                x, y, colour,
                tooltip=["kernel:N", alt.Tooltip("zeros:Q", format=".0f", title="even at (%)")],
            )
        )  # fmt: skip
    return alt.layer(*layers).properties(height=_HEIGHT + _legend(kinds))


def roofline(table: pd.DataFrame) -> AnyChart:
    """Multiply-adds a second against multiply-adds a byte: each kernel of one setting a point.

    The slopes are the measured bandwidths that the kernels had, the flat line the peak.
    """
    kinds = [kind for kind in KERNELS if kind in set(table["kernel"])]
    low, high = float(table["intensity"].min()) / 2, float(table["intensity"].max()) * 2
    peak = float(table["peak"].max()) / 1e9
    lines = []
    for bandwidth in sorted(set(table["bandwidth"])):
        ridge = peak / (bandwidth / 1e9)
        for at in sorted({low, min(max(ridge, low), high), high}):
            lines.append(
                {
                    "intensity": at,
                    "rate": min(peak, at * bandwidth / 1e9),
                    "limit": f"{bandwidth / 1e9:.0f} GB/s",
                }
            )
    x = alt.X(
        "intensity:Q", title="multiply-adds a byte moved (log axis)",
        scale=alt.Scale(type="log", domain=[low / 3, high], nice=False),  # names left of the slopes
    )  # fmt: skip
    y = alt.Y("rate:Q", title="G multiply-adds a second (log axis)", scale=alt.Scale(type="log"))
    colour, shape, _ = _by_kernel(kinds)
    ceiling = pd.DataFrame([{"intensity": low, "rate": peak, "text": f"peak {peak:.0f} G/s"}])
    slopes = alt.Chart(pd.DataFrame(lines)).encode(x, y, detail="limit:N")
    names = pd.DataFrame(lines).groupby("limit", as_index=False).first()
    return alt.layer(
        slopes.mark_line(color=GREY, strokeWidth=1.5),
        alt.Chart(names)
        .mark_text(align="right", dx=-5, color=GREY, fontSize=11)
        .encode(x, y, text="limit:N"),
        alt.Chart(ceiling)
        .mark_text(align="left", dy=-7, color=GREY, fontSize=11)
        .encode(x, y, text="text:N"),
        alt.Chart(table)
        .mark_point(filled=True, size=110, opacity=1)
        .encode(x, y, colour, shape, tooltip=_TOOLTIP),
    ).properties(height=_HEIGHT + _legend(kinds))


def storage(table: pd.DataFrame) -> AnyChart:
    """Bytes of the packed weight in each format against its sparsity."""
    once = table.drop_duplicates(["kernel", "zeros"])
    once = once[~once["kernel"].isin(["dense-transposed", "dense-onednn"])]
    kinds = [kind for kind in KERNELS if kind in set(once["kernel"])]
    colour, shape, dash = _by_kernel(kinds)
    base = alt.Chart(once).encode(
        alt.X("zeros:Q", title="zeros in the weight (%)", scale=alt.Scale(domain=[0, 100])),
        alt.Y("kib:Q", title="stored weight (KiB, log axis)", scale=alt.Scale(type="log")),
        colour,
    )
    tips = ["kernel:N", "structure:N", alt.Tooltip("zeros:Q", format=".1f", title="zeros (%)"),
            alt.Tooltip("bytes:Q", format=",", title="bytes")]  # fmt: skip
    return alt.layer(
        base.mark_line(strokeWidth=2).encode(dash),
        base.mark_point(filled=True, size=50, opacity=1).encode(shape, tooltip=tips),
    ).properties(height=_HEIGHT + _legend(kinds))


def _by_kernel(kinds: Sequence[str]) -> tuple[alt.Color, alt.Shape, alt.StrokeDash]:
    """Colour, shape and dash of each kernel, in one legend; the same for all charts of a page."""
    on = KERNELS.make(kinds[0]).device if kinds else "cpu"
    every = [kind for kind in KERNELS if KERNELS.make(kind).device == on]
    place = [every.index(kind) if kind in every else 0 for kind in kinds]
    count = len(every)
    legend = alt.Legend(title=None, orient="bottom", columns=2, labelLimit=160, symbolStrokeWidth=0)
    return (
        alt.Color(
            "kernel:N", sort=list(kinds), legend=legend,
            scale=alt.Scale(domain=list(kinds), range=[colours(count)[i] for i in place]),
        ),
        alt.Shape(
            "kernel:N", sort=list(kinds), legend=legend,
            scale=alt.Scale(domain=list(kinds), range=[shapes(count)[i] for i in place]),
        ),
        alt.StrokeDash(
            "kernel:N", sort=list(kinds), legend=None,
            scale=alt.Scale(domain=list(kinds), range=[dashes(count)[i] for i in place]),
        ),
    )  # fmt: skip


def _legend(kinds: Sequence[str]) -> int:
    return 22 * math.ceil(len(kinds) / 2)


def _best(table: pd.DataFrame) -> float:
    return float((table["p50"] * table["speedup_vs_dense"]).median())


def _float_dense(kind: str) -> bool:
    return is_dense(kind) and kind != "dense-bf16"  # on a GPU: the one dense of its type


def _lowest(lines: pd.DataFrame, kernel: str) -> float:
    return float(lines.loc[lines["kernel"] == kernel, "sparsity"].min()) + 1e-6


_TOOLTIP = [
    alt.Tooltip("kernel:N"),
    alt.Tooltip("structure:N"),
    alt.Tooltip("dtype:N", title="stored as"),
    alt.Tooltip("zeros:Q", title="zeros (%)", format=".1f"),
    alt.Tooltip("batch:Q"),
    alt.Tooltip("cache:N"),
    alt.Tooltip("p20:Q", title="20 % (µs)", format=".4g"),
    alt.Tooltip("p50:Q", title="median (µs)", format=".4g"),
    alt.Tooltip("p80:Q", title="80 % (µs)", format=".4g"),
    alt.Tooltip("speedup_vs_dense:Q", title="x dense", format=".2f"),
    alt.Tooltip("speedup_vs_csr:Q", title="x csr", format=".2f"),
    alt.Tooltip("kib:Q", title="KiB", format=".1f"),
    alt.Tooltip("of_limit:Q", title="of the limit (%)", format=".0f"),
    alt.Tooltip("limit:N"),
]
