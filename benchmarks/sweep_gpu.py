"""On a GPU: how much sooner does each engine measure a sweep than the loops people write?

One short script for a machine that is lent for minutes: the loops and every engine measure the same
points on the same samples in turn, with all that an engine needs counted; each ran once before, on
few samples, so that libraries are loaded. `in place, large` has 2,048 samples in a batch, the other
loops 256. Seconds of the wall clock, medians; float32 is float32, not TF32. Rounding may make
counts differ there: `differ` says at how many points they do, and by how many samples at most.

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
PEERS = ("in place", "in place, large", "DataLoader")
_LARGE = 2048  # samples in a batch: a loop of 256 keeps a GPU waiting for Python
_FEW = 256  # samples on which everything runs once before


def raced(
    task: Task,
    device: str,
    contestants: Sequence[str],
    sparsities: Sequence[float],
    repeats: int,
) -> dict[str, tuple[float, Counts]]:
    """Seconds and counts of the loops and the engines."""
    few = replace(task, test=task.test.take(_FEW))
    for run in _runs(few, device, contestants, sparsities[:1]).values():
        run()
    runs = _runs(task, device, contestants, sparsities)
    counts: dict[str, Counts] = {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            counts[name] = run()
            times[name].append(time.perf_counter() - started)
    return {name: (statistics.median(times[name]), counts[name]) for name in runs}


def _runs(
    task: Task, device: str, contestants: Sequence[str], sparsities: Sequence[float]
) -> dict[str, Callable[[], Counts]]:
    layers = plan_sweep(task, sparsities=sparsities, split="test").layers
    model = copy.deepcopy(task.model).to(device)
    inputs, targets = task.test.inputs, task.test.targets
    far = inputs.to(device), targets.to(device)
    in_place = partial(LOOPS["in place"], model, *far, layers, sparsities)
    loops: dict[str, Callable[[], Counts]] = {
        "in place": in_place,
        "in place, large": partial(in_place, batch=_LARGE),
        "DataLoader": partial(LOOPS["DataLoader"], model, inputs, targets, layers, sparsities),
    }
    unknown = replace(task, name="contestant")  # nothing is remembered of it

    def engine(name: str) -> Callable[[], Counts]:
        return lambda: by_engine(unknown, name, sparsities, device=device)[0]

    return {name: loops[name] if name in loops else engine(name) for name in contestants}


def table(name: str, samples: int, found: dict[str, tuple[float, Counts]]) -> Iterator[str]:
    """A line for each contestant of a model."""
    _, right = found["in place"]
    for label, (seconds, counts) in found.items():
        apart = [abs(counts[point] - right[point]) for point in right]
        ratios = [f"{found[p][0] / seconds:>15.2f}x" if p in found else f"{'-':>16}" for p in PEERS]
        yield (
            f"{name:17}{samples:>8}{len(right):>7} {label:16}{seconds:>9.2f}{''.join(ratios)}"
            f"{sum(map(bool, apart)):>8} by {max(apart)}"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", default=",".join(CONTESTANTS), help="default all")
    parser.add_argument(
        "--contestants", default=";".join((*PEERS, *ENGINES)), help="with ; between, default all"
    )
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()
    device = resolve_device(chosen.device)
    print(f"{device_label(device)}; {versions()}")
    print(
        f"{'model':17}{'samples':>8}{'points':>7} {'by':16}{'seconds':>9}"
        f"{''.join(f'{peer:>16}' for peer in PEERS)}{'differ':>8}"
    )
    for name in chosen.models.split(","):
        task = CONTESTANTS[name].load(chosen.samples)
        with full_precision():
            found = raced(task, device, chosen.contestants.split(";"), LEVELS, chosen.repeats)
        print("\n".join(table(name, len(task.test), found)), flush=True)


if __name__ == "__main__":
    main()
