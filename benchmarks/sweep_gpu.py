"""On a GPU: how much sooner does each engine measure a sweep than the loops people write?

One short script for a machine that is lent for minutes: both loops and every engine measure the
same points on the same samples in turn, with all that an engine needs counted. Seconds of the wall
clock, medians; float32 is float32, not TF32. Rounding may make counts differ there: `differ` says
at how many points they do, and by how many samples at most. Not yet run: no GPU was there.

    python -m benchmarks.sweep_gpu
    python -m benchmarks.sweep_gpu --device cpu --models digits-mobilenet --samples 64 --repeats 1
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from benchmarks.peer_loops import LOOPS, Counts
from benchmarks.sweep import LEVELS, by_engine
from benchmarks.sweep_models import CONTESTANTS
from sparsity_core.machine import device_label, full_precision, resolve_device, versions
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import Task

ENGINES = ("bitwise", "exact", "verified")


def raced(
    task: Task, device: str, engines: Sequence[str], sparsities: Sequence[float], repeats: int
) -> dict[str, tuple[float, Counts]]:
    """Seconds and counts of the loops and the engines."""
    layers = plan_sweep(task, sparsities=sparsities, split="test").layers
    model = copy.deepcopy(task.model).to(device)
    inputs, targets = task.test.inputs, task.test.targets
    far = inputs.to(device), targets.to(device)
    runs: dict[str, Callable[[], Counts]] = {
        "in place": partial(LOOPS["in place"], model, *far, layers, sparsities),
        "DataLoader": partial(LOOPS["DataLoader"], model, inputs, targets, layers, sparsities),
    }
    unknown = replace(task, name="contestant")  # nothing is remembered of it
    for name in engines:
        runs[name] = lambda name=name: by_engine(unknown, name, sparsities, device=device)[0]
    counts = {name: run() for name, run in runs.items()}  # also loads the libraries
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: (statistics.median(times[name]), counts[name]) for name in runs}


def table(name: str, samples: int, found: dict[str, tuple[float, Counts]]) -> Iterator[str]:
    """A line for each contestant of a model."""
    loop, right = found["in place"]
    for label, (seconds, counts) in found.items():
        apart = [abs(counts[point] - right[point]) for point in right]
        yield (
            f"{name:17}{samples:>8}{len(right):>7} {label:12}{seconds:>9.2f}"
            f"{loop / seconds:>10.2f}x{found['DataLoader'][0] / seconds:>11.2f}x"
            f"{sum(map(bool, apart)):>8} by {max(apart)}"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", default=",".join(CONTESTANTS), help="default all")
    parser.add_argument("--engines", default=",".join(ENGINES), help="default all three")
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()
    device = resolve_device(chosen.device)
    print(f"{device_label(device)}; {versions()}")
    print(
        f"{'model':17}{'samples':>8}{'points':>7} {'by':12}{'seconds':>9}{'in place':>11}"
        f"{'DataLoader':>12}{'differ':>8}"
    )
    for name in chosen.models.split(","):
        task = CONTESTANTS[name].load(chosen.samples)
        with full_precision():
            found = raced(task, device, chosen.engines.split(","), LEVELS, chosen.repeats)
        print("\n".join(table(name, len(task.test), found)), flush=True)


if __name__ == "__main__":
    main()
