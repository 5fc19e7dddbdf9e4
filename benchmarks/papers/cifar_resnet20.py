"""ResNet-20 on CIFAR-10, shortened for one CPU thread: moving masks, and rewinding.

The network is the papers' own; images are halved to 16 x 16, batches are 64, and a training has
some hundred steps instead of 60,000, so that only orders can be compared and no accuracies.
CIFAR-10 is here as JPEG files, which are lossy.

`rules`: at 90 % by ERK, SET and RigL lie between a fixed mask and gradual magnitude pruning (Evci
et al. 2020, arXiv 1911.11134, figure 2, there WideResNet-22-2).
`rewinding`: under the mask that training finds, two copies in different data orders are joined by
a line. Begun from step 0 they are unstable and worse than dense; from an early step on they are
stable and as good (Frankle et al. 2020, arXiv 1912.05671, figure 5, there at rate 0.03 to 0.1).

    SPARSITY_DATA=... python -m benchmarks.papers.cifar_resnet20 rules --steps 500 --seeds 0,1
    SPARSITY_DATA=... python -m benchmarks.papers.cifar_resnet20 rewinding --steps 500 --early 100
"""

import argparse
import time
from dataclasses import replace

import torch
import torch.nn.functional as F

from benchmarks.papers.verdict import Claim, print_table
from sparsity_core.allocations import ERK
from sparsity_core.course import Course, Place
from sparsity_core.data import Split
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.budgets import budgets_of
from sparsity_core.dynamic.course import MovingCourse
from sparsity_core.recipe import Training
from sparsity_core.repairs import BatchNorm, Damage
from sparsity_core.setting import draw_batches
from sparsity_core.structures import Unstructured
from sparsity_core.task import Task, load_task
from sparsity_core.tickets.connectivity import STABLE, line_between
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.train import evaluate
from sparsity_core.weights import Masks, prunable

RULES_RUN = ("static", "set-rigl", "rigl", "gmp")
_LOOKED_AT = 1000  # test samples at each point of a line


def halved(task: Task) -> Task:
    """The same task on images of half the height and width."""

    def smaller(split: Split) -> Split:
        return Split(F.avg_pool2d(split.inputs, 2), split.targets, split.name)

    splits = {name: smaller(task.split(name)) for name in ("train", "validation", "test")}
    return replace(task, **splits)


def training_of(steps: int) -> Training:
    """Rate 0.1 along a cosine, decay 1e-4, batch 64."""
    return Training(steps=steps, rate=0.1, weight_decay=1e-4, batch_size=64)


def accuracy_of(task: Task, kind: str, seed: int, steps: int) -> float:
    """Test accuracy in per cent after training under a rule; masks move every 25 steps."""
    options = {} if kind == "static" else {"every": 25}
    model, rule = fresh_model(task, seed), RULES.make(kind, **options)
    kept = budgets_of(model, rule, ERK(), 0.9).kept
    course = MovingCourse(model, task.train, training_of(steps), rule, kept, seed=seed)
    course.advance_()
    return 100 * evaluate(model, task.test).value


def run_rules(task: Task, seeds: list[int], steps: int) -> None:
    """Train under each rule, print the table."""
    found: dict[str, list[float]] = {kind: [] for kind in RULES_RUN}
    for seed in seeds:
        for kind, values in found.items():
            started = time.perf_counter()
            values.append(accuracy_of(task, kind, seed, steps))
            took = time.perf_counter() - started
            print(f"seed {seed}, {kind}: {values[-1]:.2f} %; {took:.0f} s", flush=True)

    def gap(one: str, other: str) -> list[float]:
        return [a - b for a, b in zip(found[one], found[other], strict=True)]

    claims = [
        Claim("SET - static", "> 0", gap("set-rigl", "static"), 0.0, unit=" points"),
        Claim("RigL - static", "> 0", gap("rigl", "static"), 0.0, unit=" points"),
        Claim("gradual magnitude - RigL", ">= 0", gap("gmp", "rigl"), 0.0, unit=" points"),
    ]
    print_table(claims, f"ResNet-20, CIFAR-10 at 16 x 16, 90 %, {steps:,} steps of 64")


def largest(course: Course, share: float) -> Masks:
    """The largest weights of all layers together, so many of them."""
    parameters = dict(course.model.named_parameters())
    weights = {name: parameters[name].detach().abs() for name in prunable(course.model)}
    every = torch.cat([weight.flatten() for weight in weights.values()])
    chosen = torch.zeros_like(every, dtype=torch.bool)
    chosen[every.topk(round(share * len(every))).indices] = True
    parts = chosen.split([weight.numel() for weight in weights.values()])
    return {n: part.view(w.shape) for (n, w), part in zip(weights.items(), parts, strict=True)}


def run_rewinding(task: Task, seeds: list[int], steps: int, early: int, share: float) -> None:
    """Find a mask, rewind to 0 and to an early step, train two copies each; print the table."""
    lost: dict[int, list[float]] = {0: [], early: []}
    barriers: dict[int, list[float]] = {0: [], early: []}
    test = task.test.take(_LOOKED_AT)
    for seed in seeds:
        dense = Course(fresh_model(task, seed), task.train, training_of(steps), seed=seed)
        places = {0: dense.place()}
        dense.advance_(early)
        places[early] = dense.place()
        dense.advance_()
        masks = largest(dense, share)
        whole = 100 * evaluate(dense.model, task.test).value
        for k, place in places.items():
            twins = [_from(task, place, masks, seed, order, steps) for order in (seed, 1000 + seed)]
            ends = [100 * evaluate(twin.model, task.test).value for twin in twins]
            lost[k].append(sum(ends) / 2 - whole)
            batches = draw_batches(task.train, 512, seed, "cpu")
            damage = Damage(twins[0].model, masks, Unstructured(), batches)
            line = line_between(
                twins[0].model, twins[0].state(), twins[1].state(),
                lambda model: evaluate(model, test), points=11,
                mend_=lambda model, damage=damage: BatchNorm().repair_(model, damage),
            )  # fmt: skip
            barriers[k].append(100 * line.barrier)
            print(
                f"seed {seed}, from step {k}: dense {whole:.2f} %, twins {ends[0]:.2f} and "
                f"{ends[1]:.2f} %, barrier {barriers[k][-1]:.1f} points",
                flush=True,
            )
    claims = [
        Claim("barrier from step 0", "unstable", barriers[0], 100 * STABLE, unit=" pp"),
        Claim(
            f"barrier from step {early}", "stable", barriers[early], high=100 * STABLE, unit=" pp"
        ),
        Claim(
            f"accuracy from {early} - from 0", "> 0",
            [a - b for a, b in zip(lost[early], lost[0], strict=True)], 0.0, unit=" pp",
        ),
        Claim(f"accuracy from {early} - dense", "about 0", lost[early], -0.5, unit=" pp"),
    ]  # fmt: skip
    print_table(
        claims, f"ResNet-20, CIFAR-10 at 16 x 16, {share:.0%} of weights left, {steps:,} steps"
    )


def _from(task: Task, place: Place, masks: Masks, seed: int, order: int, steps: int) -> Course:
    """A course under masks from a place on, with its own order of the data, at its end."""
    model = fresh_model(task, seed)
    course = Course(model, task.train, training_of(steps), masks=masks, seed=order)
    course.go_to_(place, same_order=False)
    course.advance_()
    return course


def main() -> None:
    """One of the two parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["rules", "rewinding"])
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--early", type=int, default=100, help="the step to rewind to")
    parser.add_argument("--left", type=float, default=0.2, help="share of weights, of rewinding")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = halved(load_task("cifar10-resnet20"))
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    if chosen.part == "rules":
        run_rules(task, seeds, chosen.steps)
    else:
        run_rewinding(task, seeds, chosen.steps, chosen.early, chosen.left)


if __name__ == "__main__":
    main()
