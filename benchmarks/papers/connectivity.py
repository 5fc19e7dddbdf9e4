"""Is LeNet-300-100 on MNIST stable to the noise of SGD, from which step on?

Frankle et al. 2020 (arXiv 1912.05671), figures 1 and 2: two copies of one network are trained on
the data in different orders; LeNet is stable (error barrier on the line between them below 2 %,
30 points) from the very start, k = 0. Adam 1.2e-3, batch 60, as in the lottery paper.

    SPARSITY_DATA=... python -m benchmarks.papers.connectivity --folder /tmp/lth --steps 20000
"""

import argparse
from pathlib import Path

from benchmarks.papers.experiment import rows_of
from benchmarks.papers.lth import LEARNING, RULE
from benchmarks.papers.verdict import Claim, print_table
from sparsity_core.task import load_task
from sparsity_core.tickets.connectivity import STABLE
from sparsity_core.tickets.plan import plan_tickets


def main() -> None:
    """Train what is missing, print the line of each pair and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where results are kept")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=24_000, help="of each training")
    parser.add_argument("--every", type=int, default=100, help="steps between looks")
    parser.add_argument("--from-steps", default="0,100,500,2000", help="steps of the split")
    parser.add_argument("--only-stored", action="store_true", help="print what is there already")
    chosen = parser.parse_args()
    task = load_task("mnist-lenet-300-100")
    splits = [int(k) for k in chosen.from_steps.split(",")]
    plan = plan_tickets(
        task,
        training=LEARNING(steps=chosen.steps),
        rule=RULE,
        rounds=0,
        arms=["other-order"],
        rewinds=splits,
        seeds=[int(seed) for seed in chosen.seeds.split(",")],
        every=chosen.every,
    )
    rows = rows_of(plan, task, chosen.folder, chosen.only_stored)
    pairs = [row for row in rows if row.barrier is not None]
    for row in pairs:
        print(f"seed {row.seed}, split at {row.rewind:5}: barrier {row.barrier:.2%}, {row.line}")
    claims = [
        Claim(
            f"barrier from step {k}",
            "stable, < 2 %" if k == 0 else "stable",
            [100 * row.barrier for row in pairs if row.rewind == k and row.barrier is not None],
            high=100 * STABLE,
            unit=" pp",
        )
        for k in splits
    ]
    print_table(claims, f"LeNet-300-100, MNIST test error, {chosen.steps} steps")


if __name__ == "__main__":
    main()
