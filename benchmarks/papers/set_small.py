"""SET beside a fixed mask of as many weights where samples are few.

After the tutorial of Mocanu et al. (ECMLPKDD 2019): 784-1000-1000-1000-10, epsilon 13, a share of
0.3 moves after each epoch, 2,000 to train on and 1,000 to test on, batch 40, rate 0.05, momentum
0.9, decay 2e-4, dropout 0.2, 400 epochs. There on Fashion-MNIST, with squared errors of sigmoid
outputs, a decay that is not multiplied by the rate, and a sigmoid's slope taken twice; here on
MNIST with cross-entropy, and without what is wrong.

    SPARSITY_DATA=... python -m benchmarks.papers.set_small --epochs 400 --seeds 0,1,2,3,4
"""

import argparse
import time
from itertools import pairwise

import torch
from torch import nn

from benchmarks.papers.verdict import Claim, print_table
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.sparse_course import SparseCourse
from sparsity_core.recipe import Training
from sparsity_core.task import Task, load_task
from sparsity_core.train import evaluate

WIDTHS = (784, 1000, 1000, 1000, 10)
EPSILON, TRAIN, TEST = 13, 2000, 1000


def kept() -> list[int]:
    """epsilon (inputs + outputs) weights of each layer: 23,192, 26,000, 26,000; all of the last."""
    return [min(EPSILON * (a + b), a * b) for a, b in pairwise(WIDTHS)]


def network(seed: int) -> nn.Module:
    """Linear layers with ReLU and dropout; first weights as large as newborn ones, N(0, 0.1^2)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(WIDTHS):
            linear = nn.Linear(inputs, outputs)
            nn.init.normal_(linear.weight, std=0.1)
            parts += [linear, nn.ReLU(), nn.Dropout(0.2)]
        return nn.Sequential(*parts[:-2])


def accuracy_of(task: Task, kind: str, seed: int, epochs: int, rate: float) -> float:
    """Test accuracy in per cent."""
    training = Training(
        epochs=epochs, rate=rate, weight_decay=2e-4, batch_size=40, rate_schedule="constant"
    )
    model = network(seed)
    names = [name for name, parameter in model.named_parameters() if parameter.dim() == 2]
    budgets = dict(zip(names, kept(), strict=True))
    course = SparseCourse(
        model, task.train.take(TRAIN), training, RULES.make(kind), budgets, seed=seed
    )
    course.advance_()
    return 100 * evaluate(course.model, task.test.take(TEST)).value


def main() -> None:
    """Train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0.05)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task("mnist-lenet-300-100")
    found: dict[str, list[float]] = {"set": [], "static": []}
    for seed in map(int, chosen.seeds.split(",")):
        for kind, values in found.items():
            started = time.perf_counter()
            values.append(accuracy_of(task, kind, seed, chosen.epochs, chosen.rate))
            took = time.perf_counter() - started
            print(f"seed {seed}, {kind}: {values[-1]:.2f} %; {took:.0f} s", flush=True)
    gaps = [a - b for a, b in zip(found["set"], found["static"], strict=True)]
    claims = [
        Claim("SET - fixed mask", "2.0 (Fashion-MNIST)", gaps, 0.5, 3.5, " points"),
        Claim("SET", "82.6 (Fashion-MNIST)", found["set"], low=0, unit=" %"),
        Claim("fixed mask", "80.6 (Fashion-MNIST)", found["static"], low=0, unit=" %"),
    ]
    print_table(claims, f"MNIST, {TRAIN} to train on, {TEST} to test, {chosen.epochs} epochs")


if __name__ == "__main__":
    main()
