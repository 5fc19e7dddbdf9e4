"""How long an experiment will take, from a few steps of it."""

import statistics
import time

from sparsity_core.course import Course
from sparsity_core.task import Task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.tickets.plan import TicketPlan
from sparsity_core.train import evaluate

_STEPS = 5  # a turn
_TURNS = 5


def seconds_of(task: Task, plan: TicketPlan, trainings: int | None = None) -> float:
    """An estimate for so many trainings of a plan, all when None, one after another.

    Measured here and now, on the plan's device, by a few steps and one look at the validation
    split: it takes about a second for small models. Rewinding steps and what else runs on the
    machine later are not in it.
    """
    count = len(plan.points()) if trainings is None else trainings
    course = Course(
        fresh_model(task, 0), task.train, plan.training, loss=task.loss, device=plan.device
    )
    course.advance_(_STEPS)  # the first steps are slow: memory, and compilers on a GPU
    a_step = statistics.median(_time_of_steps(course) for _ in range(_TURNS))
    started = time.perf_counter()
    evaluate(course.model, task.validation, loss=task.loss, metric=task.metric, device=plan.device)
    a_look = time.perf_counter() - started
    looks = plan.steps / plan.every + 1
    return count * (plan.steps * a_step + looks * a_look)


def _time_of_steps(course: Course) -> float:
    begun, started = course.step, time.perf_counter()
    course.advance_(begun + _STEPS)
    # A plan may have fewer steps than are measured.
    return (time.perf_counter() - started) / max(course.step - begun, 1)
