"""Is the time left that a sweep shows right?

A sweep runs in this process and one thread. After each tenth of its time it is asked how long the
rest will take, as the job asks; then that is compared with what the rest took. Times are of the
processor in this thread, the preparation apart. `-` is where nothing would have been shown yet.

    python -m benchmarks.time_left
    python -m benchmarks.time_left --models resnet20:64 --engine verified
"""

import argparse
import time
from dataclasses import replace

import torch

from benchmarks.sweep_models import CONTESTANTS
from sparsity_core.groups_left import GroupsLeft
from sparsity_core.machine import device_label, versions
from sparsity_core.sweep.engines import ENGINES
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.work import speed_of, work_of
from sparsity_core.task import Task
from sparsity_core.time_left import Done
from sparsity_core.weights import prunable

MODELS = "lenet5:2000,resnet20:64"
LEVELS = tuple(level / 10 for level in range(1, 10))


def errors(task: Task, engine: str) -> tuple[float, list[float | None]]:
    """Seconds of a sweep, and after each tenth by what share too long the time left was."""
    plan = plan_sweep(task, sparsities=LEVELS, split="test", engine=engine)
    work = work_of(plan, speed_of(task.model, task.train.inputs), prunable(task.model))
    groups = [[point.id for point in group] for group in plan.groups(plan.points())]
    left = GroupsLeft(work, groups)
    plan.prepare(task)
    said: list[tuple[float, float | None]] = []
    began = last = time.thread_time()
    for row in plan.run(task, plan.points()):
        now = time.thread_time()
        left.note(Done(row.point_id, 1.0, now, seconds=now - last))
        said.append((now - began, left.seconds(now)))
        last = now
    total = said[-1][0]
    found: list[float | None] = []
    for tenth in range(1, 10):
        at, seconds = next(each for each in said if each[0] >= tenth * total / 10)
        rest = total - at
        found.append(None if seconds is None or rest <= 0 else seconds / rest - 1)
    return total, found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=MODELS, help=f"name:samples; default {MODELS}")
    parser.add_argument("--engine", default="exact", choices=ENGINES)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{device_label('cpu')}; {versions()}; engine {chosen.engine}")
    print(f"{'model':17}{'samples':>8}{'s':>8}  error after 1, 2, ... 9 tenths")
    for name, samples in (entry.split(":") for entry in chosen.models.split(",")):
        # Under a name that is not in the catalog: nothing is remembered from before.
        task = replace(CONTESTANTS[name].load(int(samples)), name="contestant")
        total, found = errors(task, chosen.engine)
        words = ["-" if error is None else f"{error:+.0%}" for error in found]
        print(f"{name:17}{samples:>8}{total:>8.1f}  {' '.join(words)}", flush=True)


if __name__ == "__main__":
    main()
