"""How long points of a curve will take, before they are measured."""

from collections.abc import Sequence
from statistics import median

from sparsity_core.curve import CurvePlan, CurvePoint
from sparsity_core.curve_row import CurveResult
from sparsity_core.pace import Pace
from sparsity_core.repairs import repairs_label
from sparsity_core.schedules import SCHEDULES
from sparsity_core.task import Task


def seconds_of(
    task: Task,
    plan: CurvePlan,
    points: Sequence[CurvePoint],
    rows: Sequence[CurveResult],
    pace: Pace,
) -> float:
    """An estimate, one point after another: as `rows` with as much to do took, else by a pace.

    What scorers and repairs take besides a pass over their samples is in the rows alone.
    """
    return sum(_seconds(task, plan, point, rows, pace) for point in points)


def _seconds(
    task: Task, plan: CurvePlan, point: CurvePoint, rows: Sequence[CurveResult], pace: Pace
) -> float:
    training, rounds = point.recipe.training, len(point.recipe.schedule.targets(0.5))
    known = [
        row.seconds
        for row in rows
        if row.value is not None
        and row.finetune_epochs == (training.epochs if training else 0)
        and row.schedule.startswith(SCHEDULES.label(point.recipe.schedule))
        and row.repair == repairs_label(point.recipe.repair)
    ]
    if known:
        return median(known)
    seen = plan.setting.samples + rounds * plan.setting.score_samples
    seconds = seen * pace.look / len(task.validation)
    if training is None:
        return seconds
    a_round = -(-len(task.train) // training.batch_size)
    steps = training.epochs * a_round if training.steps is None else training.steps
    return seconds + rounds * steps * pace.step
