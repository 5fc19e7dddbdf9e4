"""How long an experiment will take, from a few steps of it."""

import statistics
import time
from dataclasses import dataclass

from sparsity_core.course import Course
from sparsity_core.task import Task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.tickets.plan import TicketPlan
from sparsity_core.train import evaluate

_STEPS = 5  # a turn
_TURNS = 5
_LOOKS = 3


@dataclass(frozen=True)
class Pace:
    """Seconds here and now, on one device."""

    step: float
    look: float  # at the validation split

    def of_training(self, plan: TicketPlan) -> float:
        """Seconds of one training of a plan."""
        return plan.steps * self.step + (plan.steps / plan.every + 1) * self.look


def pace_of(task: Task, plan: TicketPlan) -> Pace:
    """Measured on the plan's device by a few steps and one look: about a second for small models.

    Rewinding steps, and what else runs on the machine later, are not in it.
    """
    course = Course(
        fresh_model(task, 0), task.train, plan.training, loss=task.loss, device=plan.device
    )
    course.advance_(_STEPS)  # the first steps are slow: memory, and compilers on a GPU
    a_step = statistics.median(_time_of_steps(course) for _ in range(_TURNS))
    return Pace(a_step, statistics.median(_time_of_look(course, task) for _ in range(_LOOKS)))


def size_of(plan: TicketPlan) -> str:
    """How much there is to train, such as `9 rounds x 3 seeds x 3 arms: 84 trainings`."""
    parts = [(plan.rounds, "round"), (len(plan.seeds), "seed"), (len(plan.arms), "arm")]
    if len(plan.rewinds) > 1:
        parts.append((len(plan.rewinds), "rewind step"))
    words = " x ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in parts)
    return f"{words}: {len(plan.points())} trainings of {plan.steps:,} steps"


def seconds_of(task: Task, plan: TicketPlan, trainings: int | None = None) -> float:
    """An estimate for so many trainings of a plan, all when None, one after another."""
    count = len(plan.points()) if trainings is None else trainings
    return count * pace_of(task, plan).of_training(plan)


def _time_of_steps(course: Course) -> float:
    begun, started = course.step, time.perf_counter()
    course.advance_(begun + _STEPS)
    # A plan may have fewer steps than are measured.
    return (time.perf_counter() - started) / max(course.step - begun, 1)


def _time_of_look(course: Course, task: Task) -> float:
    started = time.perf_counter()
    evaluate(
        course.model, task.validation, loss=task.loss, metric=task.metric, device=course.device
    )
    return time.perf_counter() - started
