"""LeNet-300-100 pruned before any training by SNIP, then trained, on MNIST.

Lee et al. 2019 (arXiv 1810.02340), table 1: errors 1.7 % dense, 1.6 % at 95 %, 2.4 % at 98 %, means
of 20 seeds. Scores from one mini-batch of 100 at Gaussian Glorot weights (the paper: variance
scaling), one ranking over all layers; SGD 0.1, momentum 0.9, weight decay 5e-4, batch 100, the rate
falls tenfold every 25,000 steps. The paper counts biases among what is pruned and holds 10 % out;
here biases stay and 5,000 of 60,000 samples are held out.

    SPARSITY_DATA=... python -m benchmarks.papers.snip --seeds 0,1,2 --epochs 100
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.papers.experiment import Kept
from benchmarks.papers.verdict import Claim, print_table
from sparsity_core.allocations import Global
from sparsity_core.checkpoint import UnderWay
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe, Training
from sparsity_core.scorers import Snip
from sparsity_core.setting import draw_batches
from sparsity_core.task import Task, load_task
from sparsity_core.tickets.fresh import fresh_model, origin
from sparsity_core.train import evaluate, train_

BATCH, FALLS_EVERY = 100, 25_000
PAPER = {0.0: ("1.7", 2.1), 0.95: ("1.6", 2.1), 0.98: ("2.4", 3.0)}  # error, what is tolerated


def training_of(task: Task, epochs: int) -> Training:
    """The paper's, with the rate's falls at the same steps."""
    steps = epochs * -(-len(task.train) // BATCH)
    return Training(
        rate=0.1,
        weight_decay=5e-4,
        batch_size=BATCH,
        steps=steps,
        rate_schedule="step",
        drops=tuple(step / steps for step in range(FALLS_EVERY, steps, FALLS_EVERY)),
    )


def error_of(
    task: Task,
    sparsity: float,
    seed: int,
    training: Training,
    under_way: Callable[[str], UnderWay],
) -> list[float]:
    """Test error in per cent of a network pruned at initialisation and trained."""
    model = fresh_model(task, seed)
    batches = draw_batches(task.train, BATCH, seed, "cpu")
    recipe = Recipe(sparsity, Snip(), allocation=Global())
    masks = prune(Probe(model, batches, task.loss, seed=seed), recipe).masks if sparsity else {}
    train_(
        model,
        task.train,
        training,
        loss=task.loss,
        masks=masks,
        seed=seed,
        under_way=under_way("training"),
    )
    return [100 * (1 - evaluate(model, task.test).value)]


def main() -> None:
    """Prune, train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--sparsities", default="0,0.95,0.98")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task("mnist-lenet-300-100")
    training = training_of(task, chosen.epochs)
    found: dict[float, list[float]] = {float(s): [] for s in chosen.sparsities.split(",")}
    kept = Kept()
    for seed in map(int, chosen.seeds.split(",")):
        for sparsity, errors in found.items():
            started = time.perf_counter()
            what = ["snip", origin(task), task.train.digest, sparsity, seed, training.identity()]
            errors += kept.numbers(what, partial(error_of, task, sparsity, seed, training))
            print(
                f"seed {seed}, sparsity {sparsity:.0%}: error {errors[-1]:.2f} %; "
                f"{time.perf_counter() - started:.0f} s",
                flush=True,
            )
    claims = [
        Claim(f"error at {sparsity:.0%}", PAPER[sparsity][0], errors, high=PAPER[sparsity][1])
        for sparsity, errors in found.items()
    ]
    print_table(claims, f"LeNet-300-100, MNIST test error, {chosen.epochs} epochs")
    kept.forget()


if __name__ == "__main__":
    main()
