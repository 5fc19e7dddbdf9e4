"""`sparsity train`: train from the start under moving masks, beside dense and fixed ones."""

import argparse
from typing import TYPE_CHECKING, Any

from sparsity_core.cli.own import add_own, reference, tell
from sparsity_core.cli.where import add_measured

if TYPE_CHECKING:
    from sparsity_core.dynamic.plan import MovingPlan
    from sparsity_core.dynamic.rule import UpdateRule
    from sparsity_core.task import Task

# Torch is imported when the command runs and not for --help.


def add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The options of `sparsity train`."""
    parser = commands.add_parser(
        "train", help="train sparse from the start while masks move: RigL, SET, SRigL, ..."
    )
    parser.add_argument("model", metavar="MODEL", help="see `sparsity models`; or your own")
    parser.add_argument(
        "--rules", "--rule", dest="rules", default="rigl", metavar="A,B",
        help="see `sparsity rules`; dense and static are always trained beside them",
    )  # fmt: skip
    parser.add_argument(
        "--sparsity", "--sparsities", dest="sparsities", default=".9", metavar=".9,.95"
    )
    parser.add_argument(
        "--distribution", default="erk", help="of the sparsity: erk, er, uniform, uniform-plus"
    )
    parser.add_argument("--interval", type=int, help="steps between updates; default: the rule's")
    parser.add_argument("--drop", type=float, help="share that moves at first; the rule's")
    parser.add_argument("--until", type=float, help="share of training after which masks stand")
    parser.add_argument(
        "--options", default="", metavar="RULE:NAME=VALUE,...", help="as in srigl:ablate=0.5"
    )
    parser.add_argument("--skip", default="", metavar="NAME,...", help="layers that stay dense")
    parser.add_argument(
        "--matched", action="store_true",
        help="for rules that learn their sparsity: RigL at the same count in each layer",
    )  # fmt: skip
    parser.add_argument("--seeds", "--seed", dest="seeds", default="0", metavar="S,S")
    parser.add_argument("--steps", type=int, help="of each training; default: --epochs")
    parser.add_argument("--epochs", type=int, default=10, help="of each training")
    parser.add_argument("--optimizer", default="sgd", help="sgd, nesterov, adam or adamw")
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate-schedule", default="cosine", help="constant, cosine, step, ...")
    parser.add_argument(
        "--weight-decay", type=float, default=1e-4,
        help="also drives the sparsity that str and autosparse learn: raise it towards 0.003 or "
        "0.01 for more of it",
    )  # fmt: skip
    parser.add_argument("--every", type=int, help="steps between looks; default: 40 looks")
    parser.add_argument(
        "--execution", default="simulated",
        help="simulated: masked dense products; sparse: live weights alone, on a CPU",
    )  # fmt: skip
    add_measured(parser, "test", "that reports; validation is looked at")
    add_own(parser, fresh=True)
    parser.set_defaults(action=train)


def train(chosen: argparse.Namespace) -> int:
    """`sparsity train`: train what is missing, say what came of each network."""
    from sparsity_core.cli.files import check_target
    from sparsity_core.cli.measure import execute
    from sparsity_core.task import load_task

    check_target(chosen.out)
    task = load_task(reference(chosen))
    tell(task.notes)
    return execute(_plan(task, chosen), task, chosen)


def _plan(task: "Task", chosen: argparse.Namespace) -> "MovingPlan":
    from sparsity_core.allocations import ALLOCATIONS
    from sparsity_core.cli.measure import names, numbers
    from sparsity_core.dynamic.choice import options_from, rule_with
    from sparsity_core.dynamic.planning import plan_moving
    from sparsity_core.recipe import Training

    own = options_from(chosen.options)
    shared: dict[str, Any] = {
        name: value
        for name, value in (
            ("every", chosen.interval),
            ("drop", chosen.drop),
            ("until", chosen.until),
        )
        if value is not None
    }
    kinds = names(chosen.rules)
    rules: list[UpdateRule] = [rule_with(kind, shared, own.get(kind, {})) for kind in kinds]
    return plan_moving(
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
        rules=rules,
        sparsities=numbers(chosen.sparsities, "sparsity", float),
        allocation=ALLOCATIONS.make(chosen.distribution),
        seeds=numbers(chosen.seeds, "seeds", int),
        skip=names(chosen.skip),
        every=chosen.every,
        matched=chosen.matched,
        execution=chosen.execution,
        split=chosen.split,
        samples=chosen.samples,
        device=chosen.device,
    )
