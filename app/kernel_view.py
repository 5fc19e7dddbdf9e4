"""One layer: the sentence, live bars, speedup against sparsity, roofline, storage, all numbers."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import export
from app.about import about
from app.kernel_charts import bars, frame_of, roofline, speedups, storage
from app.kernel_source import Shown, say_where
from app.kernel_words import kernels_command, kernels_python
from sparsity_core.kernels import KERNELS, energy
from sparsity_core.kernels.break_even import break_even
from sparsity_core.kernels.plan import KernelPlan
from sparsity_core.kernels.row import KernelRow
from sparsity_core.kernels.words import in_words, is_dense


def draw_layer(plan: KernelPlan, shown: Shown) -> None:
    """Everything about one layer; of the plan, or of the example where nothing is stored."""
    rows: Sequence[KernelRow] = shown.rows
    table = frame_of(rows)
    if table.empty:
        st.info("Nothing is timed yet. Start it: the bars appear here.")
        _draw_trouble(rows)
        return
    st.markdown(f"#### {in_words(rows)}")
    say_where(shown)
    if shown.shipped and (plan.model or plan.shapes != ((rows[0].rows, rows[0].cols),)):
        st.caption(f"The example is of {_what(rows[0])}, not of what is chosen above.")
    words = (kernels_command(plan), kernels_python(plan))
    batch, cache, asked = _choose_setting(table)
    here = table[(table["batch"] == batch) & (table["cache"] == cache)]
    one = here[here["asked"] == asked]
    what = _what(rows[0])
    setting = f"batch {batch}, {cache} cache"
    if one.empty:
        st.info(f"{100 * asked:g} % at {setting} is not timed yet.")
    else:
        noise = float(one["noise"].iloc[0])
        st.subheader(f"{what} at {100 * asked:g} % zeros, {setting}")
        export.show(
            bars(one, noise), one, f"kernels-bars-{batch}-{cache}", command=words[0],
            python=words[1], key="kernel bars",
        )  # fmt: skip
        st.caption(
            f"Median of interleaved calls in random order; the short line goes from 20 to 80 % of "
            "them. Grey band: the quickest float32 dense within the machine's noise "
            f"({noise:.1%}, from timing the same dense twice). Transposes, bias and conversions "
            "are included."
        )
    left, right = st.columns(2)
    with left:
        st.subheader("Speedup against sparsity")
        if here["asked"].nunique() > 1:
            own = [row for row in rows if (row.batch, row.cache) == (batch, cache)]
            wide = float(here["noise"].max())
            export.show(
                speedups(here, own, wide), here, f"kernels-speedup-{batch}-{cache}",
                command=words[0], python=words[1], key="kernel speedups",
            )  # fmt: skip
            st.caption(
                f"{what}, {setting}. 1 = the quickest of three float32 dense layouts; open diamond "
                f"= break-even; grey band = noise, at most {wide:.0%} here. dense-bf16 has half "
                "the bytes and no zeros skipped."
            )
        else:
            st.info("One sparsity only: add others to see where a kernel breaks even.")
    with right:
        st.subheader("How far from the limit")
        if not one.empty:
            export.show(
                roofline(one), one, f"kernels-roofline-{batch}-{cache}", command=words[0],
                python=words[1], key="kernel roofline",
            )  # fmt: skip
            st.caption(
                f"{what} at {100 * asked:g} %, {setting}. Slopes: bandwidth measured where the "
                "bytes of a call fit (cold: memory); flat: multiply-adds a second measured on one "
                "thread. A point below both is bound by something else, mostly by finding inputs."
            )
    left, right = st.columns(2)
    with left:
        st.subheader("Storage")
        export.show(
            storage(table), table, "kernels-storage", command=words[0], python=words[1],
            key="kernel storage",
        )  # fmt: skip
        st.caption(f"{what}: bytes of the packed weight, places included, without the bias.")
    with right:
        st.subheader("Break-even")
        name = st.column_config.TextColumn(width=140)  # the longest name of a kernel
        st.dataframe(_even_table(rows), hide_index=True, column_config={"kernel": name})
        st.caption(
            "Sparsity (%) from which a kernel stays ahead of the quickest float32 dense, "
            "interpolated. The lowest sparsity timed where it is ahead throughout; *never* where "
            "it is behind at the highest; empty where it was not timed."
        )
    _draw_numbers(one if not one.empty else here)
    about(KERNELS, key="kernels")
    _draw_trouble(rows)


def _choose_setting(table: pd.DataFrame) -> tuple[int, str, float]:
    """Batch, cache and sparsity of the bars; the first two also of the lines."""
    left, middle, right = st.columns([2, 1, 3])
    batch = _pick(left, "Batch", sorted(set(table["batch"])), "kernels-batch")
    cache = _pick(middle, "Cache", list(dict.fromkeys(table["cache"])), "kernels-cache")
    here = table[(table["batch"] == batch) & (table["cache"] == cache)]
    levels = sorted(set((here if len(here) else table)["asked"]))
    usual = min(range(len(levels)), key=lambda i: abs(levels[i] - 0.9))
    asked = _pick(
        right, "Sparsity asked (%)", levels, "kernels-asked", usual, lambda s: f"{100 * s:g}"
    )
    return int(batch), str(cache), float(asked)


def _pick(
    column: Any, name: str, options: Sequence[Any], key: str, index: int = 0, text: Any = str
) -> Any:
    # The options are in the key: those of another plan must not keep a choice that it has not.
    return column.segmented_control(
        name, options, default=options[index], required=True, format_func=text,
        key=f"{key} {hash(tuple(options))}",
    )  # fmt: skip


def _even_table(rows: Sequence[KernelRow]) -> pd.DataFrame:
    found = break_even(row for row in rows if not is_dense(row.kernel))
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for (kernel, batch, cache), share in found.items():
        line = lines.setdefault((kernel, cache), {"kernel": kernel, "cache": cache})
        line[f"batch {batch}"] = "never" if share is None else f"{100 * share:.0f}"
    return pd.DataFrame(list(lines.values())).fillna("")


def _draw_numbers(table: pd.DataFrame) -> None:
    columns = {
        "kernel": "kernel", "structure": "structure", "dtype": "stored as", "zeros": "zeros (%)",
        "p20": "20 % (µs)", "p50": "median (µs)", "p80": "80 % (µs)",
        "speedup_vs_dense": "x dense", "speedup_vs_csr": "x csr", "kib": "KiB",
        "of_limit": "of limit (%)", "limit": "limit", "energy": "energy (µJ)",
        "energy_source": "energy from",
    }  # fmt: skip
    sources = set(table["energy_source"].dropna())
    with st.expander("All numbers, with energy", icon=":material/table:"):
        shown = table[list(columns)].rename(columns=columns)
        st.dataframe(shown.style.format(precision=2), hide_index=True, placeholder="")
        told = [energy.MEASURED[source] for source in energy.MEASURED if source in sources]
        told += [energy.ASSUMPTIONS] if "model" in sources else []
        st.caption(" ".join(told) or "No energy: neither RAPL nor NVML can be read here.")


def _draw_trouble(rows: Sequence[KernelRow]) -> None:
    reasons = {row.kernel: f"{row.status}: {row.message}" for row in rows if row.p50 is None}
    if reasons:
        with st.expander(f"Not timed: {', '.join(reasons)}"):
            st.markdown("\n".join(f"- `{kernel}` {why}" for kernel, why in reasons.items()))


def _what(row: KernelRow) -> str:
    size = f"{row.rows} x {row.cols}"
    return f"{row.model}, {row.layer} ({size})" if row.model else f"Linear {row.cols} to {row.rows}"
