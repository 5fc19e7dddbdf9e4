"""How much sooner does an engine measure a sweep than the loops people write, to the same counts?

Every loop and the engine measure all points (layers x sparsities, magnitude) on the same samples,
one after another, in one thread and this process. What they need for it is counted, be it copies
or the capture of a graph, but not the loading of libraries. Times are of the processor in this
thread, medians over the repeats. The program stops when a single count differs. `limit` is the
time that the multiply-adds of all suffixes would take at the speed of a large matrix product, and
`of limit` how near the engine comes to it.

    python -m benchmarks.sweep --short
    python -m benchmarks.sweep --engine exact --repeats 3
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch

from benchmarks.peer_loops import LOOPS, Counts
from benchmarks.sweep_models import CONTESTANTS, deep_resnet
from benchmarks.work import peak_flops, suffix_flops
from sparsity_core.machine import device_label, versions
from sparsity_core.sweep.engines import ENGINES
from sparsity_core.sweep.plan import SweepPlan, plan_sweep
from sparsity_core.task import Task

T = TypeVar("T")

SHORT_LEVELS = (0.5, 0.7, 0.9)
LEVELS = tuple(level / 10 for level in range(1, 10))


@dataclass(frozen=True)
class Measured:
    """Seconds of each loop and of the engine, and the limits."""

    points: int
    seconds: dict[str, float]  # medians, by the names in LOOPS and the engine's
    limit: float  # seconds for the suffixes alone
    engines: str  # as the rows name them

    def gain(self, engine: str, over: str) -> float:
        """How often the engine would have been done by the time the loop was."""
        return self.seconds[over] / self.seconds[engine]


def measured(
    task: Task, engine: str, sparsities: Sequence[float], repeats: int, peers: Sequence[str]
) -> Measured:
    """All loops and the engine in turn, so that whatever slows the machine slows them all."""
    layers = plan_sweep(task, sparsities=sparsities, split="test").layers
    inputs, targets = task.test.inputs, task.test.targets
    by_engine(deep_resnet(1, 4), engine, sparsities[:1])  # loads the libraries
    times: dict[str, list[float]] = {name: [] for name in (*peers, engine)}
    labels: set[str] = set()
    for _ in range(repeats):
        found: dict[str, Counts] = {}
        for name in peers:
            loop = partial(LOOPS[name], task.model, inputs, targets, layers, sparsities)
            seconds, found[name] = _timed(loop)
            times[name].append(seconds)
        # A new task object, so that nothing is left of the last repeat, and under a name that is
        # not in the catalog, whose dense numbers would be remembered from before.
        seconds, (found[engine], used) = _timed(
            partial(by_engine, replace(task, name="contestant"), engine, sparsities)
        )
        times[engine].append(seconds)
        labels |= used
        for name, counts in found.items():
            _check_same(name, counts, found[engine])
    flops = suffix_flops(task.model, inputs[:1])
    peak = peak_flops()
    work = len(targets) * len(sparsities) / peak
    return Measured(
        points=len(layers) * len(sparsities),
        seconds={name: statistics.median(found) for name, found in times.items()},
        limit=work * sum(flops[name] for name in layers),
        engines=", ".join(sorted(labels)),
    )


def by_engine(
    task: Task, engine: str, sparsities: Sequence[float], **options: Any
) -> tuple[Counts, set[str]]:
    """The counts of an engine, and what the rows call it; whatever goes wrong ends the program."""
    plan: SweepPlan = plan_sweep(
        task, sparsities=sparsities, split="test", engine=engine, **options
    )
    rows = list(plan.run(task, plan.points()))
    if bad := [row for row in rows if row.value is None]:
        raise SystemExit(f"{bad[0].layer} at {bad[0].sparsity}: {bad[0].status} {bad[0].message}")
    counts = {(r.layer, r.sparsity): round(r.value * r.samples) for r in rows}
    return counts, {row.engine for row in rows}


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.thread_time()
    result = work()
    return time.thread_time() - started, result


def _check_same(name: str, counts: Counts, others: Counts) -> None:
    for point, count in others.items():
        if counts[point] != count:
            raise SystemExit(f"{point}: the loop {name} counts {counts[point]}, the engine {count}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="reference", choices=ENGINES)
    parser.add_argument("--models", default=",".join(CONTESTANTS), help="default all")
    parser.add_argument("--samples", type=int, help="of every model; default its own number")
    parser.add_argument("--levels", help="sparsities; default 0.1 to 0.9")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--loops", default=",".join(LOOPS), help="default all three")
    parser.add_argument("--short", action="store_true", help="few samples, 3 levels, one repeat")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{device_label('cpu')}; {versions()}; engine {chosen.engine}")
    levels = SHORT_LEVELS if chosen.short else LEVELS
    if chosen.levels:
        levels = tuple(map(float, chosen.levels.split(",")))
    repeats = 1 if chosen.short else chosen.repeats
    _print_table(chosen, levels, repeats)


def _print_table(chosen: argparse.Namespace, levels: Sequence[float], repeats: int) -> None:
    loops = chosen.loops.split(",")
    print(
        f"{'model':17}{'samples':>8}{'points':>7} "
        + "".join(f"{name + ' s':>13}" for name in loops)
        + f"{'engine s':>10}{'best':>7}"
        + "".join(f"{name:>12}" for name in loops)
        + f"{'limit s':>9}{'of limit':>9}  rows"
    )
    gains: dict[str, list[float]] = {"best": [], **{name: [] for name in loops}}
    for name in chosen.models.split(","):
        contestant = CONTESTANTS[name]
        samples = chosen.samples or (contestant.short if chosen.short else contestant.samples)
        found = measured(contestant.load(samples), chosen.engine, levels, repeats, loops)
        for loop in loops:
            gains[loop].append(found.gain(chosen.engine, loop))
        gains["best"].append(min(found.gain(chosen.engine, loop) for loop in loops))
        spent = found.seconds[chosen.engine]
        print(
            f"{name:17}{samples:>8}{found.points:>7} "
            + "".join(f"{found.seconds[loop]:>13.2f}" for loop in loops)
            + f"{spent:>10.2f}{gains['best'][-1]:>6.2f}x"
            + "".join(f"{gains[loop][-1]:>11.2f}x" for loop in loops)
            + f"{found.limit:>9.2f}{found.limit / spent:>9.0%}  {found.engines}",
            flush=True,
        )
    means = {name: math.exp(statistics.fmean(map(math.log, g))) for name, g in gains.items()}
    print("geometric means: " + ", ".join(f"{name} {mean:.2f}x" for name, mean in means.items()))


if __name__ == "__main__":
    main()
