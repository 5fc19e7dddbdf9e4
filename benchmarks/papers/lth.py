"""Lottery tickets of LeNet-300-100 on MNIST beside the paper's numbers.

Frankle & Carbin 2019 (arXiv 1803.03635), section 2 and figures 1, 3 and 4: Adam 1.2e-3, batch 60,
Gaussian Glorot, 55,000 to train on and 5,000 to find the early stop, 20 % of each hidden and 10 %
of the last layer a round. The paper trains for 50,000 steps, looks every 100, and has 5 seeds.

    SPARSITY_DATA=... python -m benchmarks.papers.lth --folder /tmp/lth --seeds 0,1,2 --steps 20000
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.papers.experiment import rows_of
from benchmarks.papers.verdict import Claim, print_table
from sparsity_core.recipe import Training
from sparsity_core.task import Task, load_task
from sparsity_core.tickets.plan import TicketPlan, plan_tickets
from sparsity_core.tickets.row import TicketResult
from sparsity_core.tickets.rule import Rule

LEARNING = partial(Training, optimizer="adam", rate=1.2e-3, batch_size=60, rate_schedule="constant")
# Rounds 7, 9, 12 and 15 leave 21.1, 13.5, 7.0 and 3.6 %.
RULE = Rule(share=0.2, last_share=0.1)
Number = Callable[[TicketResult], float]


def plan_of(
    task: Task, seeds: list[int], steps: int, every: int, rounds: int, arms: list[str]
) -> TicketPlan:
    """The paper's experiment."""
    return plan_tickets(
        task,
        training=LEARNING(steps=steps),
        rule=RULE,
        rounds=rounds,
        arms=arms,
        seeds=seeds,
        control_rounds=[n for n in (7, 9, 12) if n <= rounds],
        every=every,
    )


def claims_of(rows: list[TicketResult]) -> list[Claim]:
    """The paper's statements; differences are in percentage points, paired by seed."""
    found = {(row.arm, row.round, row.seed): row for row in rows}
    seeds = sorted({row.seed for row in rows})

    def early(row: TicketResult) -> float:
        assert row.early_value is not None
        return 100 * row.early_value

    def last(row: TicketResult) -> float:
        assert row.value is not None
        return 100 * row.value

    def stop(row: TicketResult) -> float:
        assert row.early_stop is not None
        return float(row.early_stop)

    def paired(
        one: tuple[str, int], other: tuple[str, int], number: Number, ratio: bool = False
    ) -> list[float]:
        pairs = [(found.get((*one, s)), found.get((*other, s))) for s in seeds]
        both = [(number(a), number(b)) for a, b in pairs if a and b]
        return [a / b if ratio else a - b for a, b in both]

    def ticket(number: int) -> tuple[str, int]:
        return ("ticket", number)

    dense = ticket(0)
    reinit = ("reinitialised", 7)
    points = " pp"
    return [
        Claim(
            "dense accuracy at early stop",
            "about 98 %",
            [early(found[(*dense, s)]) for s in seeds if (*dense, s) in found],
            97.0,
            98.6,
            " %",
        ),
        Claim(
            "21 %: accuracy at early stop - dense",
            ">= 0",
            paired(ticket(7), dense, early),
            0.0,
            unit=points,
        ),
        Claim(
            "21 %: early stop / dense's",
            "0.62",
            paired(ticket(7), dense, stop, ratio=True),
            0.45,
            0.85,
        ),
        Claim(
            "13.5 %: accuracy at early stop - dense",
            "> 0.3 pp",
            paired(ticket(9), dense, early),
            0.0,
            0.6,
            points,
        ),
        Claim(
            "13.5 %: accuracy at the end - dense",
            "> 0",
            paired(ticket(9), dense, last),
            0.0,
            unit=points,
        ),
        Claim(
            "3.6 %: accuracy at early stop - dense",
            "0",
            paired(ticket(15), dense, early),
            -0.2,
            0.2,
            points,
        ),
        Claim(
            "21 %: ticket - reinitialised, early stop",
            "about 0.5 pp",
            paired(ticket(7), reinit, early),
            0.2,
            0.9,
            points,
        ),
        Claim(
            "21 %: reinitialised early stop / ticket's",
            "2.51",
            paired(reinit, ticket(7), stop, ratio=True),
            1.5,
            4.0,
        ),
        Claim(
            "21 %: reinitialised - dense, early stop",
            "< 0",
            paired(reinit, dense, early),
            high=0.0,
            unit=points,
        ),
        Claim(
            "one-shot 21 %: accuracy at early stop - dense",
            ">= -0.1 pp",
            paired(("one-shot", 7), dense, early),
            -0.1,
            unit=points,
        ),
        Claim(
            "one-shot 21 %: early stop / dense's",
            "< 1",
            paired(("one-shot", 7), dense, stop, ratio=True),
            high=1.0,
        ),
    ]


def main() -> None:
    """Train what is missing, print every round and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where results are kept")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--steps", type=int, default=50_000, help="of each training; paper 50,000")
    parser.add_argument("--every", type=int, default=100, help="steps between looks; paper 100")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--arms", default="ticket,one-shot,reinitialised")
    parser.add_argument("--save", type=Path, help="write plan and rows there, as JSON")
    parser.add_argument("--only-stored", action="store_true", help="print what is there already")
    chosen = parser.parse_args()
    task = load_task("mnist-lenet-300-100")
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    plan = plan_of(task, seeds, chosen.steps, chosen.every, chosen.rounds, chosen.arms.split(","))
    rows = rows_of(plan, task, chosen.folder, chosen.only_stored)
    if chosen.save:
        found = {"plan": plan.to_dict(), "rows": [asdict(row) for row in rows]}
        chosen.save.write_text(json.dumps(found, indent=1) + "\n")
    for row in rows:
        assert row.sparsity is not None
        print(
            f"seed {row.seed} {row.arm:13} round {row.round:2}: {1 - row.sparsity:6.1%} left, "
            f"early stop {row.early_stop:5} at {row.early_value:.2%}, end {row.value:.2%}"
        )
    setting = f"LeNet-300-100, MNIST, {chosen.steps} steps, a look every {chosen.every}"
    print_table(claims_of(rows), setting)


if __name__ == "__main__":
    main()
