"""Times of kernels and of whole models as tables on the terminal."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from sparsity_core.kernels.latency_row import LatencyRow
from sparsity_core.kernels.row import KernelRow


def print_kernels(rows: Sequence[KernelRow]) -> None:
    """A table a setting, under the machine and its noise; then what could not be timed."""
    power = f"; {rows[0].power}" if rows[0].power else ""
    print(f"{rows[0].device}\n{rows[0].versions}; {rows[0].threads} thread(s){power}")
    for (batch, cache, asked), group in groupby(rows, lambda r: (r.batch, r.cache, r.asked)):
        timed = [row for row in group if row.p50 is not None]
        if not timed:
            continue
        print(
            f"\n{timed[0].rows} x {timed[0].cols}, {100 * asked:g} % asked, batch {batch}, {cache} "
            f"cache; the same dense timed twice differs by {timed[0].noise:.1%}"
        )
        print(pd.DataFrame([_line(row) for row in timed]).to_string(index=False))
    reasons = {row.kernel: f"{row.status}: {row.message}" for row in rows if row.message}
    for kernel, reason in reasons.items():
        print(f"{kernel} {reason}")
    print()


def _line(row: KernelRow) -> dict[str, Any]:
    return {
        "kernel": row.kernel,
        "structure": row.structure,
        "zeros": f"{row.sparsity:.1%}",
        "us": f"{row.p50:.1f}",
        "20-80 %": f"{row.p20:.1f}-{row.p80:.1f}",
        "x dense": f"{row.speedup_vs_dense:.2f}",
        "x csr": "" if row.speedup_vs_csr is None else f"{row.speedup_vs_csr:.2f}",
        "KiB": f"{(row.bytes or 0) / 1024:.0f}",
        "of limit": f"{row.limit_fraction:.0%} {row.limit}",
    }


def print_latency(rows: Sequence[LatencyRow]) -> None:
    """A table a batch: each layer before and after, and why; the whole model first."""
    print(f"{rows[0].model}, {rows[0].recipe}\n{rows[0].device}\n{rows[0].versions}")
    for batch, group in groupby(rows, lambda row: row.batch):
        print(f"\nbatch {batch}, {rows[0].threads} thread(s)")
        print(pd.DataFrame([_layer_line(row) for row in group]).to_string(index=False))
    print()


def _layer_line(row: LatencyRow) -> dict[str, Any]:
    return {
        "layer": row.layer,
        "kernel": row.kernel,
        "dense us": "" if row.dense_p50 is None else f"{row.dense_p50:.1f}",
        "us": "" if row.p50 is None else f"{row.p50:.1f}",
        "x": "" if row.speedup is None else f"{row.speedup:.2f}",
        "why": row.message,
    }
