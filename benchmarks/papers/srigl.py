"""Does a constant fan-in with ablation keep RigL's accuracy, and do its layers then run faster?

Lasby et al. 2024 (arXiv 2305.02299). Here LeNet-300-100 on MNIST at 90 % by ERK, batch 100, rate
0.1 with a cosine, decay 1e-4, updates every 100 steps until 75 %; then the kernel lab on the very
mask that training found for the first layer, batch 1, one thread, turns interleaved, medians.

    SPARSITY_DATA=... python -m benchmarks.papers.srigl --steps 11000 --seeds 0,1,2
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.papers.verdict import Claim, print_table
from sparsity_core.allocations import ERK
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.budgets import budgets_of
from sparsity_core.dynamic.course import MovingCourse
from sparsity_core.kernels import KERNELS
from sparsity_core.recipe import Training
from sparsity_core.task import Task, load_task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.train import evaluate

SPARSITY = 0.9
_CALLS, _TURNS = 200, 25


def trained(task: Task, kind: str, seed: int, steps: int) -> MovingCourse:
    """A network under a rule."""
    training = Training(steps=steps, rate=0.1, weight_decay=1e-4, batch_size=100)
    model, rule = fresh_model(task, seed), RULES.make(kind)
    kept = budgets_of(model, rule, ERK(), SPARSITY).kept
    course = MovingCourse(model, task.train, training, rule, kept, loss=task.loss, seed=seed)
    course.advance_()
    return course


def layer_times(course: MovingCourse) -> dict[str, float]:
    """Microseconds of the first layer for one sample: dense, and each kernel for any mask."""
    weight, mask = course.layers["fc1.weight"].data, course.live["fc1.weight"]
    x = torch.randn(1, weight.shape[1])
    rows = mask.any(1)
    smaller = weight[rows].contiguous()
    works: dict[str, Callable[[], object]] = {
        "dense": lambda: torch.nn.functional.linear(x, weight),
        "living neurons, dense": lambda: torch.nn.functional.linear(x, smaller),
    }
    for kind in ("ell", "csr"):
        if kind in KERNELS.kinds():
            packed = KERNELS.make(kind).pack(smaller, mask[rows])
            works[kind] = lambda packed=packed: packed(x)  # type: ignore[misc]
    taken: dict[str, list[float]] = {name: [] for name in works}
    with torch.no_grad():
        for turn in range(_TURNS + 1):
            for name, work in works.items():
                started = time.thread_time()
                for _ in range(_CALLS):
                    work()
                if turn:
                    taken[name].append((time.thread_time() - started) / _CALLS * 1e6)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Train, time, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=11_000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task("mnist-lenet-300-100")
    found: dict[str, list[float]] = {"rigl": [], "srigl": []}
    ratios: dict[str, list[float]] = {}
    for seed in map(int, chosen.seeds.split(",")):
        for kind, values in found.items():
            course = trained(task, kind, seed, chosen.steps)
            values.append(100 * evaluate(course.model, task.test).value)
            text = f"seed {seed}, {kind}: {values[-1]:.2f} %"
            if kind == "srigl":
                times = layer_times(course)
                for name, took in times.items():
                    ratios.setdefault(name, []).append(times["dense"] / took)
                shown = ", ".join(f"{name} {took:.1f}" for name, took in times.items())
                text += f"; ablated {course.history.ablated}; first layer in us: {shown}"
            print(text, flush=True)
    gaps = [a - b for a, b in zip(found["srigl"], found["rigl"], strict=True)]
    claims = [Claim("SRigL - RigL", "about 0", gaps, -0.5, 0.5, " points")]
    claims += [
        Claim(f"{name}, times as fast as dense", "3.4 (ViT layer)", values, low=1.0)
        for name, values in ratios.items()
        if name in ("ell", "csr")
    ]
    print_table(claims, f"LeNet-300-100 on MNIST at {SPARSITY:.0%}, {chosen.steps:,} steps")


if __name__ == "__main__":
    main()
