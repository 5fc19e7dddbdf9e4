"""SET and sparse momentum for LeNet-300-100 on MNIST beside the published table.

Dettmers & Zettlemoyer 2019 (arXiv 1907.04840), results/MNIST_sparse_summary.csv of their code: 100
epochs, batch 100, SGD 0.1 with Nesterov momentum, a tenth every 25,000 steps, L2 5e-4, masks move
once an epoch by a share that falls from 0.5. Their SET draws new weights at random with value 0.
With fewer epochs the rate falls at the same shares. The density
is spread by Erdos-Renyi, as SET's own paper has it: alike in all layers, 1 % leaves the last one
weight for each output, and SET, which keeps each layer's count, came to 63 % (15 epochs, seed 0).

    SPARSITY_DATA=... python -m benchmarks.papers.dynamic_mnist --epochs 100 --seeds 0,1,2
"""

import argparse
import time

import torch

from benchmarks.papers.verdict import Claim, print_table
from sparsity_core.allocations import ERK
from sparsity_core.dynamic import RULES, Dense, UpdateRule
from sparsity_core.dynamic.budgets import budgets_of
from sparsity_core.dynamic.course import MovingCourse
from sparsity_core.recipe import Training
from sparsity_core.task import Task, load_task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.train import evaluate

PAPER = {
    ("dense", 1.0): 98.69,
    ("set", 0.05): 98.14, ("set", 0.02): 97.74, ("set", 0.01): 95.80,
    ("sparse-momentum", 0.05): 98.53, ("sparse-momentum", 0.02): 98.20,
    ("sparse-momentum", 0.01): 97.53,
}  # fmt: skip
_TOLERATED = 0.4  # points
FALLS = (25_000 / 55_000, 50_000 / 55_000)


def rule_of(name: str) -> UpdateRule:
    """The rule as the table's code has it."""
    if name == "set":
        return RULES.make("set-rigl", every=0, until=1.0, drop=0.5)
    return RULES.make(name)


def accuracy_of(task: Task, name: str, density: float, seed: int, epochs: int) -> float:
    """Test accuracy in per cent after training."""
    training = Training(
        epochs=epochs, optimizer="nesterov", rate=0.1, weight_decay=5e-4, batch_size=100,
        rate_schedule="step", drops=FALLS,
    )  # fmt: skip
    rule = Dense() if name == "dense" else rule_of(name)
    model = fresh_model(task, seed)
    kept = budgets_of(model, rule, ERK(), 1 - density).kept
    course = MovingCourse(model, task.train, training, rule, kept, loss=task.loss, seed=seed)
    course.advance_()
    return 100 * evaluate(model, task.test).value


def main() -> None:
    """Train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--densities", default="0.05,0.02,0.01")
    parser.add_argument("--rules", default="set,sparse-momentum,dense")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task("mnist-lenet-300-100")
    densities = [float(d) for d in chosen.densities.split(",")]
    rules = chosen.rules.split(",")
    names = sorted(
        ((n, d) for n in rules for d in ([1.0] if n == "dense" else densities)),
        key=lambda pair: pair[1],
    )
    found: dict[tuple[str, float], list[float]] = {name: [] for name in names}
    for seed in map(int, chosen.seeds.split(",")):
        for name, values in found.items():
            started = time.perf_counter()
            values.append(accuracy_of(task, *name, seed, chosen.epochs))
            took = time.perf_counter() - started
            print(
                f"seed {seed}, {name[0]} at {name[1]:.0%}: {values[-1]:.2f} %; {took:.0f} s",
                flush=True,
            )
    claims = [
        Claim(
            f"{name} at {density:.0%}", f"{PAPER[name, density]:.2f} %", values,
            PAPER[name, density] - _TOLERATED, PAPER[name, density] + _TOLERATED, " %",
        )
        for (name, density), values in found.items()
    ]  # fmt: skip
    for density in densities:
        pair = ("sparse-momentum", density), ("set", density)
        if all(name in found for name in pair):
            gaps = [a - b for a, b in zip(*(found[name] for name in pair), strict=True)]
            paper = f"{PAPER[pair[0]] - PAPER[pair[1]]:.2f}"
            what = f"sparse momentum - SET at {density:.0%}"
            claims.append(Claim(what, paper, gaps, 0.0, unit=" points"))
    print_table(claims, f"LeNet-300-100, MNIST test accuracy, {chosen.epochs} of 100 epochs")


if __name__ == "__main__":
    main()
