"""GPU kernels against dense on the GPU of this machine: what was reached, beside the goal.

One short script for a machine that is lent for minutes: tensor sizes are named, calls replayed from
CUDA graphs, kernels of a line interleaved in random order, settings of our own kernels searched,
each product compared with float64 before it is timed.

    python -m benchmarks.kernels_gpu --out "$OUT/kernels_gpu.csv"
"""

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from sparsity_core.kernels import KERNELS, sparsify
from sparsity_core.kernels.gpu_bench import GpuPoint, GpuRow, gpu_peaks, measure_on_gpu
from sparsity_core.kernels.kernel import Kernel
from sparsity_core.structures import NofM

# Options of each kernel among which the quickest is looked for.
OPTIONS: dict[str, list[dict[str, int | str]]] = {
    "gpu-2:4": [{"backend": "cusparselt"}, {"backend": "cutlass"}],
    "gpu-bsr": [
        {"samples": samples, "warps": warps, "stages": stages}
        for samples, warps, stages in ((128, 4, 3), (128, 4, 4), (128, 8, 4), (256, 8, 3))
    ],
    "gpu-balanced": [
        {"outputs": outputs, "tile": tile, "warps": warps}
        for outputs, tile, warps in (
            *((1, 256, 1), (1, 512, 1), (2, 1024, 2), (4, 512, 4), (4, 1024, 4)),
            *((4, 2048, 4), (8, 1024, 4), (8, 2048, 8)),
        )
    ],
    "gpu-condensed": [
        {"samples": samples, "tile": tile, "warps": warps}
        for samples, tile, warps in (
            *((16, 512, 1), (32, 256, 1), (32, 512, 1), (32, 1024, 1), (32, 1024, 2)),
            *((64, 512, 1), (64, 1024, 1)),
        )
    ],
    "gpu-unstructured": [{}],
    "gpu-csr": [{}],
}


@dataclass(frozen=True)
class Goal:
    """What the best of a kernel's settings should reach at a point."""

    kernel: str
    point: GpuPoint
    least: float
    against: str = "dense"  # or csr, or bandwidth: then a fraction of it


_WIDE = [GpuPoint(8192, 8192, 0.9, batch, cache="cold") for batch in (1, 8, 32)]
_SRIGL = GpuPoint(768, 3072, 0.9, 256, "float32")
GOALS = [
    *(Goal("gpu-2:4", GpuPoint(d, d, 0.5, 2048), 1.3) for d in (4096, 8192)),
    *(Goal("gpu-balanced", point, 4.0) for point in _WIDE),
    *(Goal("gpu-balanced", point, 0.6, "bandwidth") for point in _WIDE),
    Goal("gpu-condensed", _SRIGL, 3.0),
    Goal("gpu-condensed", _SRIGL, 13.0, "csr"),
    Goal("gpu-bsr", GpuPoint(4096, 4096, 0.9, 2048), 3.0),
]
BESIDE = {_SRIGL: ("gpu-csr", "gpu-unstructured")}  # timed at a point without a goal of their own


def variants(kind: str, dtype: str) -> dict[str, Kernel]:
    """A kernel with each of its options, by a name that says which."""
    named: dict[str, Kernel] = {}
    for options in OPTIONS[kind]:
        text = ", ".join(f"{key} {value}" for key, value in options.items())
        named[f"{kind} ({text})" if text else kind] = KERNELS.make(kind, dtype=dtype, **options)
    return named


def reached(goal: Goal, rows: Sequence[GpuRow]) -> tuple[float, str] | None:
    """The most that any setting reached and its name; None where none ran."""
    if goal.against == "dense":
        values = {row.kernel: row.speedup_vs_dense for row in rows}
    elif goal.against == "csr":
        values = {row.kernel: row.speedup_vs_csr for row in rows}
    else:
        values = {row.kernel: row.limit_fraction for row in rows if row.limit == "bytes"}
    own = {name: v for name, v in values.items() if name.partition(" (")[0] == goal.kernel}
    return max(((value, name) for name, value in own.items()), default=None)


def table(goals: Sequence[Goal], rows: Mapping[GpuPoint, Sequence[GpuRow]]) -> list[str]:
    """A line a goal: what was reached here, the goal, whether it was met, by which setting."""
    lines = [f"{'goal':58}{'reached':>9}{'goal':>7}  "]
    for goal in goals:
        p = goal.point
        what = (
            f"{goal.kernel} vs {goal.against}, {p.rows}x{p.cols}, batch {p.batch}, {p.dtype}, "
            f"{p.cache}"
        )
        found = reached(goal, rows.get(p, ()))
        if found is None:
            lines.append(f"{what:58}{'-':>9}{goal.least:7.2f}  did not run")
        else:
            value, name = found
            verdict = "met" if value >= goal.least else "MISSED"
            lines.append(f"{what:58}{value:9.2f}{goal.least:7.2f}  {verdict:7} {name}")
    return lines


def never_slower() -> list[str]:
    """What `sparsify` chooses for 2:4 masks: dense for a single sample, or whatever is quicker."""
    lines = []
    for batch in (1, 2048):
        model = nn.Sequential(nn.Linear(4096, 4096), nn.GELU(), nn.Linear(4096, 4096))
        masks = {}
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                units = NofM(2, 4).units(torch.rand_like(weight))
                masks[name] = NofM(2, 4).expand(NofM(2, 4).choose(units, 0.5), weight.shape)
        x = torch.randn(batch, 4096, device="cuda", dtype=torch.bfloat16)
        sparse = sparsify(model.to("cuda", torch.bfloat16), masks, sample=x)
        chosen = ", ".join(layer.kernel for layer in sparse.layers)
        lines.append(f"auto, 2:4, batch {batch}: {chosen}; {sparse.note}")
    return lines


def main() -> None:
    """Measure every goal's point; print the table last, since a lent machine shows the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", help="a CSV file of all rows")
    parser.add_argument("--seconds", type=float, default=280, help="start no point after these")
    asked = parser.parse_args()
    start = time.perf_counter()
    print(f"{torch.cuda.get_device_name()}; torch {torch.__version__}; cuSPARSELt "
          f"{torch.backends.cusparselt.is_available()}")  # fmt: skip
    for dtype in ("float32", "bfloat16"):
        peak = gpu_peaks(dtype)
        print(f"{dtype}: {peak.multiply_adds / 1e12:.0f} T multiply-adds/s; copy "
              f"{peak.bandwidth / 1e12:.2f} TB/s")  # fmt: skip
    found: dict[GpuPoint, list[GpuRow]] = {}
    for point in dict.fromkeys(goal.point for goal in GOALS):
        if time.perf_counter() - start > asked.seconds:
            print(f"{point}: not begun, the time is up")
            continue
        kinds = {goal.kernel for goal in GOALS if goal.point == point} | {*BESIDE.get(point, ())}
        kernels: dict[str, Kernel] = {}
        for kind in sorted(kinds):
            kernels |= variants(kind, point.dtype)
        rows, failed = measure_on_gpu(point, kernels)
        found[point] = rows
        print(f"\n{point}; dense twice differs by {rows[0].noise:.0%}")
        for row in sorted(rows, key=lambda row: row.p50):
            print(f"  {row.kernel:52}{row.p50:9.1f} us [{row.p20:.1f}, {row.p80:.1f}]"
                  f"{row.speedup_vs_dense:7.2f}x {row.limit_fraction:5.0%} of {row.limit}; "
                  f"{'graph' if row.graph else 'call by call'}", flush=True)  # fmt: skip
        for name, reason in failed.items():
            print(f"  {name}: {reason}")
    for line in never_slower():
        print(line)
    print(f"\n{time.perf_counter() - start:.0f} s")
    print("\n".join(table(GOALS, found)))
    if asked.out:
        every = [dataclasses.asdict(row) for rows in found.values() for row in rows]
        pd.DataFrame(every).to_csv(asked.out, index=False)


if __name__ == "__main__":
    main()
