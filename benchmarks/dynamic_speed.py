"""How long an update of moving masks takes, what it adds to training, and sparse against simulated.

    python -m benchmarks.dynamic_speed --turns 7

1. An update of each rule on one layer of 10 million weights at 90 %, beside one `torch.topk` over
   the layer (of as many as live): the aim is below 5 times for RigL.
2. What RigL every 100 steps adds to the training of LeNet-300-100: the aim is below 3 %. In one
   course, by the steps' own times: an update takes the place of an optimizer's step, all other
   steps are those of a static mask.
3. 784-1000-1000-1000-10 at 99 %: memory and time of sparse and simulated training.

Thread time of one thread, turns interleaved, medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

from sparsity_core.allocations import ERK, Uniform
from sparsity_core.data import Split
from sparsity_core.dynamic import RULES, Clock, RigL, State, UpdateRule
from sparsity_core.dynamic.budgets import budgets_of
from sparsity_core.dynamic.course import MovingCourse
from sparsity_core.dynamic.sparse_course import SparseCourse
from sparsity_core.recipe import Training

ROWS, COLUMNS = 2500, 4000  # 10 million


def medians(works: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Seconds of this thread for each work, one turn of all after another."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            started = time.thread_time()
            work()
            if turn:  # the first warms up
                taken[name].append(time.thread_time() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def updates(turns: int) -> None:
    """1."""
    make = torch.Generator().manual_seed(0)
    weight = torch.randn(ROWS, COLUMNS, generator=make)
    gradient = torch.randn(ROWS, COLUMNS, generator=make)
    kept = weight.numel() // 10

    def update(rule: UpdateRule) -> Callable[[], object]:
        mask = rule.first({"layer": weight}, {"layer": kept}, 0)["layer"]
        state = State(
            clock=Clock(100, 1000, 100), weights={"layer": weight * mask},
            gradients={"layer": gradient}, masks={"layer": mask}, kept={"layer": kept}, last="",
        )  # fmt: skip
        return lambda: rule.update(state)

    flat = gradient.abs().reshape(-1)
    works: dict[str, Callable[[], object]] = {"topk": lambda: torch.topk(flat, kept)}
    works |= {kind: update(RULES.make(kind)) for kind in ("rigl", "set-rigl", "set", "srigl")}
    found = medians(works, turns)
    print(f"an update of {weight.numel():,} weights, {kept:,} live")
    for name, seconds in found.items():
        print(f"  {name:10} {1000 * seconds:8.1f} ms, {seconds / found['topk']:5.2f} x topk")


def perceptron(widths: tuple[int, ...]) -> nn.Module:
    """Linear layers with ReLU between them."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        parts += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def split_of(samples: int) -> Split:
    """Noise in the shape of MNIST."""
    make = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, 784, generator=make)
    return Split(inputs, torch.randint(10, (samples,), generator=make))


def overhead(updates: int) -> None:
    """2."""
    every = 100
    rule = RigL(every=every)
    model = perceptron((784, 300, 100, 10))
    training = Training(steps=100_000, rate=0.01, batch_size=100)
    kept = budgets_of(model, rule, ERK(), 0.9).kept
    course = MovingCourse(model, split_of(10_000), training, rule, kept)
    course.advance_(every + 1)  # past the first update
    taken: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(updates * every):
        due = rule.due(course.clock)
        started = time.thread_time()
        course.advance_(course.step + 1)
        taken[due].append(time.thread_time() - started)
    step, update = (1000 * statistics.median(taken[due]) for due in (False, True))
    print(f"LeNet-300-100 at 90 %, batch 100, {updates} updates")
    print(f"  a step with the optimizer's: {step:.2f} ms, with an update instead: {update:.2f} ms")
    print(f"  overhead of RigL at interval {every}: {(update - step) / (every * step):+.2%}")


def sparse(turns: int, steps: int = 20) -> None:
    """3."""
    widths = (784, 1000, 1000, 1000, 10)
    training = Training(steps=100_000, rate=0.01, batch_size=64)
    dense = sum(p.numel() for p in perceptron(widths).parameters())
    print(
        f"{'-'.join(map(str, widths))}, batch 64; dense weights, gradients and momentum: "
        f"{12 * dense / 1e6:.1f} MB"
    )
    for sparsity in (0.9, 0.95, 0.99):
        rule = RigL(every=100)
        model = perceptron(widths)
        kept = budgets_of(model, rule, Uniform(), sparsity).kept
        args = (split_of(6400), training, rule, kept)
        simulated = MovingCourse(model, *args)
        really = SparseCourse(perceptron(widths), *args)
        works: dict[str, Callable[[], object]] = {
            "simulated": lambda course=simulated: course.advance_(course.step + steps),  # type: ignore[misc]
            "sparse": lambda course=really: course.advance_(course.step + steps),  # type: ignore[misc]
        }
        found = medians(works, turns)
        slow, quick = (1000 * found[name] / steps for name in ("simulated", "sparse"))
        print(
            f"  {sparsity:.0%}: simulated {slow:.2f} ms a step, sparse {quick:.2f} ms "
            f"({slow / quick:.2f} x as fast); sparse memory {really.bytes / 1e6:.3f} MB, "
            f"{really.bytes / 12 / dense:.2%} of dense"
        )


def main() -> None:
    """All three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    updates(chosen.turns)
    overhead(5 * chosen.turns)
    sparse(chosen.turns)


if __name__ == "__main__":
    main()
