"""How time and memory of a sweep grow with layers, levels, samples and parameters, each alone.

A residual network on random 16x16 images, one process for each size. Seconds of the processor in
one thread: the loop people write, in place on batches in memory, and the engine, set-up counted.
Memory: the most that the process held during the engine's sweep above what it held before the model
was built, libraries loaded; model, samples and dense values between layers (at most 16 MiB) are in.
Linux only.

    python -m benchmarks.sweep_growth --csv benchmarks/sweep_growth.csv --svg FILE
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import altair as alt
import pandas as pd
import psutil
import torch
import vl_convert

from app.theme import PALETTE, SHAPES
from benchmarks.sweep import by_engine, measured
from benchmarks.sweep_models import deep_resnet
from sparsity_core.sweep.heap import give_back

BUDGET = 2**24  # bytes of dense values between layers
LOOP, ENGINE = "whole model at each point", "exact"


@dataclass(frozen=True)
class Size:
    """Of one measurement."""

    blocks: int = 3  # in each of three stages
    levels: int = 6
    samples: int = 512
    width: int = 8  # channels of the first stage


GROWN = {
    "blocks": (1, 2, 4, 8),
    "levels": (3, 6, 12, 24),
    "samples": (256, 512, 1024, 2048),
    "width": (4, 8, 16, 32),
}
AXES = {"blocks": "layers", "levels": "levels", "samples": "samples", "width": "parameters"}


def one(size: Size) -> dict[str, float]:
    """What a size costs, measured in this process."""
    torch.set_num_threads(1)
    levels = [(i + 1) / (size.levels + 1) for i in range(size.levels)]
    by_engine(deep_resnet(1, 4), ENGINE, levels[:1])  # the libraries
    before = psutil.Process().memory_info().rss
    task = deep_resnet(size.blocks, size.samples, size.width)
    give_back()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: training is not in it
    by_engine(task, ENGINE, levels, memory=BUDGET)
    held = _peak() - before
    found = measured(task, ENGINE, levels, repeats=1, peers=["in place"])
    return {
        "layers": found.points // len(levels),
        "parameters": sum(p.numel() for p in task.model.parameters()),
        LOOP: found.seconds["in place"],
        ENGINE: found.seconds[ENGINE],
        "of limit": found.limit / found.seconds[ENGINE],
        "MiB": held / 2**20,
    }


def _peak() -> int:
    """The most bytes that this process held since the peak began anew."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return 1024 * int(line.split()[1])


def picture(frame: pd.DataFrame) -> alt.VConcatChart:
    """Seconds above, memory below; a column for each of what grows; both axes logarithmic."""
    parts = {axis: frame[frame["grown"] == grown] for grown, axis in AXES.items()}
    seconds = [
        _panel(part.melt([axis], [LOOP, ENGINE], "how", "value"), axis, "seconds of one core")
        for axis, part in parts.items()
    ]
    memory = [
        _panel(part.assign(value=part["MiB"], how=ENGINE), axis, "MiB held at most")
        for axis, part in parts.items()
    ]
    return alt.vconcat(alt.hconcat(*seconds), alt.hconcat(*memory)).configure_view(stroke=None)


def _panel(part: pd.DataFrame, axis: str, value: str) -> alt.LayerChart:
    kinds = [LOOP, ENGINE]
    scale = alt.Scale(type="log", nice=False, padding=12)
    written = ".2s" if axis == "parameters" else ",d"
    ticks = alt.Axis(values=sorted(part[axis].unique()), format=written, labelOverlap=False)
    base = alt.Chart(part).encode(
        alt.X(axis, scale=scale, axis=ticks, title=axis),
        alt.Y("value", scale=alt.Scale(type="log"), title=value),
        alt.Color("how", title=None).scale(domain=kinds, range=PALETTE[:2]).legend(orient="top"),
        alt.Shape("how", title=None).scale(domain=kinds, range=SHAPES[:2]),
    )
    drawn = base.mark_line() + base.mark_point(filled=True, size=60)
    return drawn.properties(width=170, height=170)


def main() -> None:
    """Measure every size in a process of its own; write the numbers and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    parser.add_argument("--size", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.size:
        print(json.dumps(one(Size(**json.loads(chosen.size)))))
        return
    rows = []
    for grown, values in GROWN.items():
        for value in values:
            size = replace(Size(), **{grown: value})
            given = [*sys.argv[1:], "--size", json.dumps(asdict(size))]
            run = [sys.executable, "-m", "benchmarks.sweep_growth", *given]
            found = json.loads(subprocess.run(run, check=True, capture_output=True).stdout)
            rows.append({"grown": grown} | asdict(size) | found)
            print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(chosen.csv, index=False, float_format="%.4g")
    chosen.svg.write_text(vl_convert.vegalite_to_svg(picture(frame).to_json()))


if __name__ == "__main__":
    main()
