"""How long training takes here and now: a few steps of it are tried before any promise."""

import time
from dataclasses import dataclass, replace

from torch import nn

from sparsity_core.copied import copied
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


def pace_of(task: Task, training: Training | None, device: str = "cpu") -> Pace:
    """Measured by a few steps (none without a training) and looks on a copy: about a second for
    small models.

    The quickest turn counts: what else runs on the machine is not in it.
    """
    model = copied(task.model).to(device)
    step = 0.0
    if training is not None:
        # However short the training is: a turn without steps would be the quickest.
        longer = replace(training, steps=_STEPS * (1 + _TURNS))
        course = Course(model, task.train, longer, loss=task.loss, device=device)
        course.advance_(_STEPS)  # the first steps are slow: memory, and compilers on a GPU
        step = min(_time_of_steps(course) for _ in range(_TURNS))
    return Pace(step, min(_time_of_look(model, task, device) for _ in range(_LOOKS)))


def _time_of_steps(course: Course) -> float:
    started = time.perf_counter()
    course.advance_(course.step + _STEPS)
    return (time.perf_counter() - started) / _STEPS


def _time_of_look(model: nn.Module, task: Task, device: str) -> float:
    started = time.perf_counter()
    evaluate(model, task.validation, loss=task.loss, metric=task.metric, device=device)
    return time.perf_counter() - started
