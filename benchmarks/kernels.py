"""Sparse kernels against dense on this machine: the table of a layer, and where they break even.

The layer of SRigL's headline, Linear 3072 -> 768 of ViT-B/16, float32 in and out, 90 % sparse, one
thread. All kernels of a line are timed in one process, interleaved in random order.

    python -m benchmarks.kernels                  # 90 %, batches 1, 8, 64, 256, hot and cold cache
    python -m benchmarks.kernels --break-even     # 10 to 99 %, hot
"""

import argparse
import dataclasses
import sys
from itertools import product

import pandas as pd

from sparsity_core.kernels.bench import Race, measure
from sparsity_core.kernels.break_even import break_even
from sparsity_core.kernels.peaks import cpu_label, kernel_versions, peaks
from sparsity_core.kernels.row import KernelRow
from sparsity_core.kernels.workload import MATRIX_RIVALS, random_workload

MANY = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def main() -> None:
    """Print the table; write every row to a file when asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", default="768x3072", help="outputs x inputs")
    parser.add_argument("--sparsities", default="", help="default: .9")
    parser.add_argument("--batches", default="1,8,64,256")
    parser.add_argument("--caches", default="", help="default: hot,cold")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--break-even", action="store_true", help="many sparsities, hot")
    parser.add_argument("--out", help="a CSV file of all rows")
    asked = parser.parse_args()
    rows, cols = map(int, asked.shape.split("x"))
    sparsities = tuple(float(s) for s in asked.sparsities.split(",") if s)
    caches = asked.caches.split(",") if asked.caches else ["hot", "cold"]
    settings = product(
        sparsities or (MANY if asked.break_even else (0.9,)),
        map(int, asked.batches.split(",")),
        caches[: 1 if asked.break_even else 2],
    )
    work = random_workload(rows, cols)
    _print_machine(asked.threads)
    found: list[KernelRow] = []
    for sparsity, batch, cache in settings:
        race = Race(sparsity, batch, cache, threads=asked.threads, repeats=asked.repeats)
        lines = measure(race, work)
        found += lines
        print(
            f"\n{asked.shape}, sparsity {sparsity:g}, batch {batch}, {cache} "
            f"cache; the same dense timed twice differs by {lines[-1].noise:.0%}"
        )
        _print_table(lines)
        sys.stdout.flush()
    if asked.break_even:
        _print_break_even(found)
    if asked.out:
        pd.DataFrame([dataclasses.asdict(row) for row in found]).to_csv(asked.out, index=False)


def _print_machine(threads: int) -> None:
    limits = peaks()
    speeds = ", ".join(f"{size >> 10} KiB {rate / 1e9:.0f}" for size, rate in limits.read)
    print(f"{cpu_label()}; {threads} thread(s); {kernel_versions()}")
    print(f"one thread: {limits.multiply_adds / 1e9:.0f} G multiply-adds/s; reads GB/s: {speeds}")


def _print_table(lines: list[KernelRow]) -> None:
    print(
        f"{'kernel':17}{'structure':14}{'us':>9}{'p20':>9}{'p80':>9}{'x dense':>9}{'x csr':>7}"
        f"{'B/weight':>9}{'of limit':>9}"
    )
    for row in lines:
        if row.p50 is None:
            continue
        kept = row.rows * row.cols * (1 - row.sparsity)
        print(
            f"{row.kernel:17}{row.structure:14}{row.p50:9.1f}{row.p20:9.1f}{row.p80:9.1f}"
            f"{row.speedup_vs_dense:9.2f}{row.speedup_vs_csr:7.2f}{row.bytes / kept:9.2f}"
            f"{row.limit_fraction:9.0%} {row.limit}"
        )


def _print_break_even(found: list[KernelRow]) -> None:
    crossings = break_even(row for row in found if row.kernel not in MATRIX_RIVALS)
    batches = sorted({batch for _, batch, _ in crossings})
    print("\nsparsity from which a kernel beats the best float32 dense, by batch")
    print(f"{'kernel':17}" + "".join(f"{batch:>8}" for batch in batches))
    for kernel in dict.fromkeys(name for name, _, _ in crossings):
        cells = [crossings.get((kernel, batch, "hot")) for batch in batches]
        print(f"{kernel:17}" + "".join(f"{'-' if c is None else f'{c:.2f}':>8}" for c in cells))


if __name__ == "__main__":
    main()
