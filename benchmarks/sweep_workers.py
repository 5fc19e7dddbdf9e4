"""How much sooner do two worker processes end a sweep than one?

The same sweep goes through the real queue: jobs, worker processes, a store on disk. One and two
workers take turns, each time as new processes with a new store; each process has one thread. Times
are of the wall. `start` is until the workers have answered a small sweep of other samples, so that
libraries and the task are there; the sweep itself, with what a worker prepares for it, is apart.
Status and metric of every point must be the same in all runs. Two free cores are needed.

    python -m benchmarks.sweep_workers
    python -m benchmarks.sweep_workers --model cifar10-resnet20 --samples 512 --repeats 5
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from sparsity_core.executors import WorkerProcesses
from sparsity_core.job_queue import JobQueue
from sparsity_core.machine import device_label, versions
from sparsity_core.plans import Plan
from sparsity_core.store import Store
from sparsity_core.sweep.engines import ENGINES
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.work import speed_of, work_of
from sparsity_core.task import Task, load_task
from sparsity_core.weights import prunable

LEVELS = tuple(level / 10 for level in range(1, 10))
Counts = dict[str, tuple[str, float | None]]


def timed(task: Task, engine: str, samples: int, workers: int) -> tuple[float, float, Counts]:
    """Seconds of the start and of the sweep, and each point's status and metric."""
    wanted = {"split": "test", "engine": engine, "device": "cpu"}
    plan = plan_sweep(task, sparsities=LEVELS, samples=samples, **wanted)
    # At least a layer for each worker.
    small = plan_sweep(task, sparsities=[0.5], samples=min(64, samples - 1), **wanted)
    work = work_of(plan, speed_of(task.model, task.train.inputs), prunable(task.model))
    with tempfile.TemporaryDirectory() as folder:
        queue = JobQueue(Store(Path(folder)), WorkerProcesses(workers))
        try:
            start = _seconds(queue, small, None)
            spent = _seconds(queue, plan, work)
            rows = queue.store.rows(plan)
        finally:
            queue.close()
    return start, spent, {row.point_id: (row.status, row.value) for row in rows}


def _seconds(queue: JobQueue, plan: Plan, work: dict[str, float] | None) -> float:
    started = time.perf_counter()
    job = queue.submit(plan, work=work)
    job.wait()
    spent = time.perf_counter() - started
    if job.view.state != "done":
        raise SystemExit(f"{plan.title}: {job.view.state} {job.view.message}")
    return spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mnist-lenet5")
    parser.add_argument("--samples", type=int, default=10_000, help="of the test split")
    parser.add_argument("--engine", default="exact", choices=ENGINES)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers, however many there are
    task = load_task(chosen.model)
    cores = len(os.sched_getaffinity(0))
    print(f"{device_label('cpu')}; {versions()}; {cores} cores; engine {chosen.engine}")
    print(f"{chosen.model}, {chosen.samples} samples, {len(LEVELS)} levels")
    spent: dict[int, list[float]] = {1: [], 2: []}
    known: Counts | None = None
    for repeat in range(chosen.repeats):
        for workers in (1, 2) if repeat % 2 == 0 else (2, 1):
            start, seconds, counts = timed(task, chosen.engine, chosen.samples, workers)
            if known not in (None, counts):
                raise SystemExit("the rows of one and of two workers are not the same")
            known = counts
            spent[workers].append(seconds)
            print(f"{workers} worker(s): start {start:.1f} s, sweep {seconds:.2f} s", flush=True)
    one, two = (statistics.median(spent[workers]) for workers in (1, 2))
    print(f"medians: one {one:.2f} s, two {two:.2f} s: {one / two:.2f} times as fast")


if __name__ == "__main__":
    main()
