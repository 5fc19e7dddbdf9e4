"""Pruning and retraining LeNet-300-100 on MNIST as Han et al. did.

Han et al. 2015 (arXiv 1506.02626), table 3: of the three layers 8, 9 and 26 % of the weights stay,
the smallest go, survivors keep their trained values and are retrained at a tenth of the rate. Error
1.64 % dense, 1.59 % pruned (12x). The paper leaves rate and length open: here SGD 0.05 with
momentum 0.9 and weight decay 5e-4 (those of Caffe's LeNet), batch 100, along a cosine, and as many
epochs for the retraining, in three rounds (kept^(1/3), kept^(2/3), kept): the paper prunes and
retrains in turns. What was found is in RESULTS.md.

    SPARSITY_DATA=... python -m benchmarks.papers.han2015 --seeds 0,1,2 --epochs 30
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from benchmarks.papers.experiment import Kept
from benchmarks.papers.verdict import Claim, print_table
from sparsity_core.allocations import Manual
from sparsity_core.checkpoint import UnderWay
from sparsity_core.recipe import Recipe, Training
from sparsity_core.rounds import run
from sparsity_core.task import Task, load_task
from sparsity_core.tickets.fresh import fresh_model, origin
from sparsity_core.train import evaluate, train_

KEPT = {"fc1.weight": 0.08, "fc2.weight": 0.09, "fc3.weight": 0.26}
DENSE = Training(rate=0.05, batch_size=100, weight_decay=5e-4)


def errors_of(
    task: Task,
    seed: int,
    epochs: int,
    rounds: int,
    rate_share: float,
    under_way: Callable[[str], UnderWay],
) -> tuple[float, float, float, float]:
    """Test errors in per cent, dense, pruned and retrained, and the share of weights that stay."""
    training = replace(DENSE, epochs=epochs)
    model = fresh_model(task, seed)
    dense_under_way = under_way("dense")
    train_(model, task.train, training, loss=task.loss, seed=seed, under_way=dense_under_way)
    tuning = replace(training, rate=training.rate * rate_share, epochs=epochs // rounds)
    current = replace(task, model=model)
    *_, pruned = run(current, _recipe(1.0), seed=seed)
    for number in range(1, rounds + 1):
        recipe = replace(_recipe(number / rounds), training=tuning)
        *_, retrained = run(current, recipe, seed=seed, under_way=under_way(f"round-{number}"))
        current = replace(task, model=retrained.model)
    masks = retrained.pruning.masks.values()
    left = sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
    models = (model, pruned.model, retrained.model)
    dense, before, after = (100 * (1 - evaluate(m, task.test).value) for m in models)
    return dense, before, after, left


def _recipe(power: float) -> Recipe:
    """What keeps the paper's shares of each layer, each to a power: 1 at the end."""
    shares = tuple((name, 1 - kept**power) for name, kept in KEPT.items())
    return Recipe(0.9, allocation=Manual(shares))  # 0.9 is not asked: every layer has its own


def main() -> None:
    """Train, prune, retrain, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=30, help="of training, and of retraining")
    parser.add_argument("--rounds", type=int, default=3, help="of pruning and retraining")
    parser.add_argument("--rate-share", type=float, default=0.1, help="of the retraining's rate")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task("mnist-lenet-300-100")
    found, kept = [], Kept()
    for seed in map(int, chosen.seeds.split(",")):
        started = time.perf_counter()
        how = (seed, chosen.epochs, chosen.rounds, chosen.rate_share)
        what = ["han2015", origin(task), task.train.digest, how]
        found.append(kept.numbers(what, partial(errors_of, task, *how)))
        dense, before, after, left = found[-1]
        print(
            f"seed {seed}: {left:.2%} left; error {dense:.2f} % dense, {before:.2f} % pruned, "
            f"{after:.2f} % retrained; {time.perf_counter() - started:.0f} s",
            flush=True,
        )
    claims = [
        Claim("dense error", "1.64", [f[0] for f in found], high=1.8, unit=" %"),
        Claim("retrained error", "1.59", [f[2] for f in found], high=1.8, unit=" %"),
        Claim("retrained - dense", "-0.05 pp", [f[2] - f[0] for f in found], high=0.2, unit=" pp"),
        Claim("pruned, not retrained - dense", "> 0", [f[1] - f[0] for f in found], low=0.0),
    ]
    print_table(
        claims, f"LeNet-300-100, MNIST test error, {chosen.epochs} + {chosen.epochs} epochs"
    )
    kept.forget()


if __name__ == "__main__":
    main()
