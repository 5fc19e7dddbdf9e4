"""How long training takes here and now: a few steps of it are tried before any promise."""

import copy
import time
from dataclasses import dataclass

from sparsity_core.course import Course
from sparsity_core.recipe import Training
from sparsity_core.task import Task
from sparsity_core.train import evaluate

_STEPS = 5  # a turn
_TURNS = 5
_LOOKS = 3


@dataclass(frozen=True)
class Pace:
    """Seconds, on one device."""

    step: float
    look: float  # at the validation split

    def seconds(self, steps: int, every: int) -> float:
        """Of one training that looks at the start, every so many steps, and at the end."""
        return steps * self.step + (steps / every + 1) * self.look


def pace_of(task: Task, training: Training, device: str = "cpu") -> Pace:
    """Measured by a few steps and looks on a copy: about a second for small models.

    The quickest turn counts: what else runs on the machine is not in it.
    """
    course = Course(copy.deepcopy(task.model), task.train, training, loss=task.loss, device=device)
    course.advance_(_STEPS)  # the first steps are slow: memory, and compilers on a GPU
    return Pace(
        step=min(_time_of_steps(course) for _ in range(_TURNS)),
        look=min(_time_of_look(course, task) for _ in range(_LOOKS)),
    )


def _time_of_steps(course: Course) -> float:
    begun, started = course.step, time.perf_counter()
    course.advance_(begun + _STEPS)
    # A training may have fewer steps than are measured.
    return (time.perf_counter() - started) / max(course.step - begun, 1)


def _time_of_look(course: Course, task: Task) -> float:
    started = time.perf_counter()
    evaluate(
        course.model, task.validation, loss=task.loss, metric=task.metric, device=course.device
    )
    return time.perf_counter() - started
