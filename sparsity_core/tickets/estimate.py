"""How much an experiment is, and how long it will take."""

from sparsity_core.pace import pace_of
from sparsity_core.task import Task
from sparsity_core.tickets.plan import TicketPlan


def size_of(plan: TicketPlan) -> str:
    """How much there is to train, such as `9 rounds x 3 seeds x 3 arms: 84 trainings`."""
    parts = [(plan.rounds, "round"), (len(plan.seeds), "seed"), (len(plan.arms), "arm")]
    if len(plan.rewinds) > 1:
        parts.append((len(plan.rewinds), "rewind step"))
    words = " x ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in parts)
    return f"{words}: {len(plan.points())} trainings of {plan.steps:,} steps"


def seconds_of(task: Task, plan: TicketPlan, trainings: int | None = None) -> float:
    """An estimate for so many trainings of a plan, all when None, one after another.

    By a few steps tried here and now, on the plan's device; rewinding steps are not in it.
    """
    count = len(plan.points()) if trainings is None else trainings
    return count * pace_of(task, plan.training, plan.device).seconds(plan.steps, plan.every)
