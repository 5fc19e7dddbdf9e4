"""`sparsity curve`: its options, and the plan that they make."""

import argparse
import sys
from typing import TYPE_CHECKING

from sparsity_core.cli.own import reference, tell

if TYPE_CHECKING:
    from sparsity_core.curve import CurvePlan
    from sparsity_core.recipe import Recipe, Training
    from sparsity_core.repairs import Repair
    from sparsity_core.sweep.point import Result
    from sparsity_core.task import Task

# Torch is imported when the command runs and not for --help.


def add_curve_options(curve: argparse.ArgumentParser) -> None:
    """The options of `sparsity curve` besides those that it shares with `sweep`."""
    curve.add_argument("--scorer", default="magnitude")
    curve.add_argument("--structure", default="unstructured")
    curve.add_argument("--allocation", default="uniform")
    curve.add_argument("--schedule", default="one-shot")
    curve.add_argument("--rounds", type=int, help="of the schedule; default: its own")
    curve.add_argument(
        "--repair", metavar="A+B",
        help="after each round, one after the other, or none; default: none and, beside it, "
        "batch-norm where the model has batch norms",
    )  # fmt: skip
    curve.add_argument(
        "--curves", metavar="RUN", help="the sweep that the allocation `sensitivity` goes by"
    )
    curve.add_argument("--skip", default="", metavar="NAME,...", help="layers that stay dense")
    curve.add_argument(
        "--finetune-epochs", type=int, metavar="N",
        help="after each round, beside the curve as pruned; default 1, 0 leaves it out",
    )  # fmt: skip
    curve.add_argument("--rate", type=float, default=0.01, help="learning rate of fine-tuning")
    curve.add_argument("--seeds", "--seed", dest="seeds", default="0", metavar="S,S")
    curve.add_argument("--random", action="store_true", help="add the random baseline")
    curve.add_argument("--shuffled", action="store_true", help="add masks shuffled within layers")
    curve.add_argument(
        "--scored-once", action="store_true", help="add rounds that all go by the dense scores"
    )
    curve.set_defaults(action=_curve)


def _curve(chosen: argparse.Namespace) -> int:
    """`sparsity curve`: say what it will take, then measure what is missing."""
    from sparsity_core.cli.files import check_target
    from sparsity_core.cli.measure import execute, shared
    from sparsity_core.curve import plan_curve
    from sparsity_core.task import load_task

    check_target(chosen.out)
    task = load_task(reference(chosen))
    tell(task.notes)
    plan = plan_curve(task, recipes=recipes_of(task, chosen), **shared(chosen))
    _tell_size(task, plan, chosen)
    return execute(plan, task, chosen)


def recipes_of(task: "Task", chosen: argparse.Namespace) -> "list[Recipe]":
    """The recipe that the options make, mended, beside its controls, and each fine-tuned."""
    from dataclasses import replace

    from sparsity_core.allocations import ALLOCATIONS
    from sparsity_core.cli.measure import names
    from sparsity_core.controls import with_controls
    from sparsity_core.recipe import Recipe
    from sparsity_core.schedules import SCHEDULES
    from sparsity_core.scorers import SCORERS
    from sparsity_core.structures import STRUCTURES
    from sparsity_core.sweep.choice import guided_by
    from sparsity_core.variants import with_training

    rounds = {} if chosen.rounds is None else {"rounds": chosen.rounds}
    as_pruned = Recipe(
        scorer=SCORERS.make(chosen.scorer),
        structure=STRUCTURES.make(chosen.structure),
        allocation=ALLOCATIONS.make(chosen.allocation),
        schedule=SCHEDULES.make(chosen.schedule, **rounds),
        skip=tuple(names(chosen.skip)),
    )
    if chosen.curves:
        as_pruned = guided_by(_swept(chosen), as_pruned)
    recipes = with_controls(
        [replace(as_pruned, repair=repair) for repair in _repairs(task, chosen)],
        random=chosen.random,
        shuffled=chosen.shuffled,
        scored_once=chosen.scored_once,
    )
    return with_training(recipes, _training(task, chosen))


def _repairs(task: "Task", chosen: argparse.Namespace) -> "list[tuple[Repair, ...]]":
    from sparsity_core.repairs import repairs_from
    from sparsity_core.variants import usual_repairs

    if chosen.repair is None:
        return usual_repairs(task.model)
    return [repairs_from("" if chosen.repair == "none" else chosen.repair)]


def _training(task: "Task", chosen: argparse.Namespace) -> "Training | None":
    from dataclasses import replace

    from sparsity_core.recipe import Training
    from sparsity_core.variants import usual_training

    if chosen.finetune_epochs is not None:
        return Training(epochs=chosen.finetune_epochs, rate=chosen.rate)
    usual = usual_training(task.model)
    if usual is None:
        tell(("every parameter is frozen, so nothing is fine-tuned",))
        return None
    return replace(usual, rate=chosen.rate)


def _swept(chosen: argparse.Namespace) -> "list[Result]":
    """The rows of the sweep that the option names."""
    from sparsity_core.errors import SparsityError
    from sparsity_core.store import Store
    from sparsity_core.sweep.plan import SweepPlan

    store = Store(chosen.store)
    plan = store.plan(store.run(chosen.curves).id)
    if not isinstance(plan, SweepPlan):
        raise SparsityError(f"--curves {chosen.curves}: is no sweep; `sparsity runs` lists them")
    rows: list[Result] = store.rows(plan)
    return rows


def _tell_size(task: "Task", plan: "CurvePlan", chosen: argparse.Namespace) -> None:
    """How many points are missing, and about how long they take, by a few steps tried here."""
    from sparsity_core.curve_estimate import seconds_of
    from sparsity_core.pace import pace_of
    from sparsity_core.store import Store

    rows = Store(chosen.store).rows(plan)
    stored = {row.point_id for row in rows if row.status != "failed"}
    points = [point for point in plan.points() if point.id not in stored]
    if not points:
        return
    tuned = [point.recipe.training for point in points if point.recipe.training]
    count = "1 point" if len(points) == 1 else f"{len(points)} points"
    size = f"{count} to measure, {len(tuned)} of them fine-tuned"
    if chosen.time_limit is None:  # a model that may hang is run by workers alone
        try:
            pace = pace_of(task, tuned[0] if tuned else None, plan.device)
            seconds = seconds_of(task, plan, points, rows, pace)
            size += f": about {max(1, seconds):,.0f} s, one after another"
        except Exception as error:  # noqa: BLE001 - a model that cannot run: its rows say why
            size += f"; how long it takes is not known ({error})"
    print(size, file=sys.stderr)
