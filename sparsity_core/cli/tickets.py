"""`sparsity tickets`: its options, and the plan that they make."""

import argparse
import sys
from typing import TYPE_CHECKING

from sparsity_core.cli.own import add_own, reference, tell
from sparsity_core.cli.where import add_measured

if TYPE_CHECKING:
    from sparsity_core.task import Task
    from sparsity_core.tickets.plan import TicketPlan

# Torch is imported when the command runs and not for --help.


def add_tickets(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The options of `sparsity tickets`."""
    parser = commands.add_parser(
        "tickets", help="train, prune in rounds, rewind: lottery tickets and their controls"
    )
    parser.add_argument("model", metavar="MODEL", help="see `sparsity models`; or your own")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--rate", type=float, default=0.2, help="share that goes each round; .2")
    parser.add_argument(
        "--last-rate", type=float, help="the same of the last layer; default: half of --rate"
    )
    parser.add_argument("--scope", default="layer", help="rank by layer or global")
    parser.add_argument("--rewind", default="0", metavar="K,K", help="steps to go back to")
    parser.add_argument("--seeds", "--seed", dest="seeds", default="0", metavar="S,S")
    parser.add_argument(
        "--controls", default="", metavar="A,B",
        help="reinitialised, shuffled, random, one-shot, rate-rewinding, dense, corrupted, "
        "other-order (for connectivity)",
    )  # fmt: skip
    parser.add_argument(
        "--control-rounds", default="", metavar="N,N", help="of the controls; default: all"
    )
    parser.add_argument("--steps", type=int, help="of each training; default: --epochs")
    parser.add_argument("--epochs", type=int, default=5, help="of each training")
    parser.add_argument("--optimizer", default="adam", help="sgd, nesterov, adam or adamw")
    parser.add_argument("--learning-rate", type=float, default=1.2e-3)
    parser.add_argument("--batch-size", type=int, default=60)
    parser.add_argument("--rate-schedule", default="constant", help="constant, cosine, step, ...")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--every", type=int, help="steps between looks; default: 50 looks")
    add_measured(parser, "test", "that reports; validation finds the stop")
    add_own(parser, fresh=True)
    parser.set_defaults(action=tickets)


def tickets(chosen: argparse.Namespace) -> int:
    """`sparsity tickets`: say what it will take, then train what is missing."""
    from sparsity_core.cli.files import check_target
    from sparsity_core.cli.measure import execute
    from sparsity_core.task import load_task
    from sparsity_core.tickets.estimate import seconds_of, size_of

    check_target(chosen.out)
    task = load_task(reference(chosen))
    tell(task.notes)
    plan = plan_of(task, chosen)
    minutes = seconds_of(task, plan) / 60
    print(f"{size_of(plan)}: about {minutes:.1f} min, one after another", file=sys.stderr)
    return execute(plan, task, chosen)


def plan_of(task: "Task", chosen: argparse.Namespace) -> "TicketPlan":
    """The plan that the options make."""
    from sparsity_core.cli.measure import names, numbers
    from sparsity_core.recipe import Training
    from sparsity_core.tickets.plan import plan_tickets
    from sparsity_core.tickets.rule import Rule

    last = chosen.rate / 2 if chosen.last_rate is None else chosen.last_rate
    return plan_tickets(
        task,
        training=Training(
            epochs=chosen.epochs,
            steps=chosen.steps,
            optimizer=chosen.optimizer,
            rate=chosen.learning_rate,
            batch_size=chosen.batch_size,
            rate_schedule=chosen.rate_schedule,
            weight_decay=chosen.weight_decay,
        ),
        rounds=chosen.rounds,
        rule=Rule(chosen.rate, last, chosen.scope),
        arms=["ticket", *names(chosen.controls)],
        rewinds=numbers(chosen.rewind, "rewind", int),
        seeds=numbers(chosen.seeds, "seeds", int),
        control_rounds=numbers(chosen.control_rounds, "control-rounds", int),
        every=chosen.every,
        split=chosen.split,
        samples=chosen.samples,
        device=chosen.device,
    )
