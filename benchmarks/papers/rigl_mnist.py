"""RigL for LeNet-300-100 on MNIST beside the paper's small network.

Evci et al. 2020 (arXiv 1911.11134), appendix: layers at 99, 89.1 and 0 %, batch 100, rate 0.2 with
Nesterov momentum and falls to a third, L2 1e-4, updates every 100 steps until step 50,000 of
120,000 with a cosine from 0.3; 60,000 to train on, pixels from 0 to 1. With fewer steps the falls
and the end of updates keep their shares.

    SPARSITY_DATA=... python -m benchmarks.papers.rigl_mnist --steps 120000 --seeds 0,1,2
"""

import argparse
import time
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.papers.verdict import Claim, print_table
from sparsity_core.data import Split
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.course import MovingCourse
from sparsity_core.recipe import Training
from sparsity_core.task import Task, load_task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.train import evaluate

KEPT = {"fc1.weight": 2352, "fc2.weight": 3270, "fc3.weight": 1000}  # 6,622 in all
STEPS = 120_000  # 200 epochs


def as_in_its_code(*parts: Split) -> Split:
    """All samples together, pixels from 0 to 1.

    Normalised, an empty pixel is -0.42, not 0: it has gradients, and weights grow there.
    """
    inputs = torch.cat([part.inputs for part in parts])
    inputs = (inputs - inputs.min()) / (inputs.max() - inputs.min())
    return Split(inputs, torch.cat([part.targets for part in parts]))


def trained(task: Task, seed: int, steps: int) -> MovingCourse:
    """The paper's training."""
    training = Training(
        steps=steps, optimizer="nesterov", rate=0.2, weight_decay=1e-4, batch_size=100,
        rate_schedule="step",         drops=(75 / 200, 95 / 200), drop_factor=1 / 3,
    )  # fmt: skip
    rule = RULES.make("rigl", every=100, until=50_000 / STEPS, drop=0.3)
    model = fresh_model(task, seed)
    samples = as_in_its_code(task.train, task.validation)  # all 60,000
    course = MovingCourse(model, samples, training, rule, KEPT, loss=task.loss, seed=seed)
    course.advance_()
    return course


def without_dead_neurons(masks: list[Tensor]) -> list[Tensor]:
    """Masks without weights that lead from or to a neuron without inputs or outputs."""
    masks = [mask.clone() for mask in masks]
    before = -1
    while (now := sum(int(mask.sum()) for mask in masks)) != before:
        before = now
        for one, other in pairwise(masks):
            alive = one.any(1) & other.any(0)
            one &= alive[:, None]
            other &= alive
    return masks


def main() -> None:
    """Train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=STEPS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task("mnist-lenet-300-100")
    errors, pixels, flops, border = [], [], [], []
    for seed in map(int, chosen.seeds.split(",")):
        started = time.perf_counter()
        course = trained(task, seed, chosen.steps)
        masks = without_dead_neurons(list(course.live.values()))
        errors.append(100 * (1 - evaluate(course.model, as_in_its_code(task.test)).value))
        read = masks[0].any(0).reshape(28, 28)
        edge = torch.ones(28, 28, dtype=torch.bool)
        edge[4:-4, 4:-4] = False
        pixels.append(100 * (~read).double().mean().item())
        border.append(100 * (~read[edge]).double().mean().item())
        flops.append(2 * sum(int(mask.sum()) for mask in masks) / 1000)
        neurons = [int(masks[0].any(0).sum()), *(int(mask.any(1).sum()) for mask in masks)]
        print(
            f"seed {seed}: error {errors[-1]:.2f} %, neurons {neurons}, {flops[-1]:.1f} KFLOPs, "
            f"unread pixels {pixels[-1]:.0f} %, of the border of 4 {border[-1]:.0f} %; "
            f"{time.perf_counter() - started:.0f} s",
            flush=True,
        )
    claims = [
        Claim("test error", "1.44 (1.48 last) %", errors, high=1.9, unit=" %"),
        Claim("input pixels without a connection", "48 % (408 left)", pixels, low=40, unit=" %"),
        Claim("border pixels without one", "most", border, low=50, unit=" %"),
        Claim("KFLOPs without dead neurons", "12.6", flops, 11, 15),
    ]
    print_table(claims, f"LeNet-300-100 on MNIST, 99/89/0 %, {chosen.steps:,} of {STEPS:,} steps")


if __name__ == "__main__":
    main()
