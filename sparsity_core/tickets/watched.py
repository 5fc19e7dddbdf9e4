"""A training that is looked at on its way: its validation curve, and the model at its best."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sparsity_core.checkpoint import UnderWay
from sparsity_core.course import Course, Place
from sparsity_core.data import Split
from sparsity_core.task import Metric
from sparsity_core.train import evaluate

State = dict[str, Tensor]


@dataclass
class Watched:
    """What was seen, at the start and every so many steps; lists are of one length."""

    steps: list[int] = field(default_factory=list)
    train_losses: list[float | None] = field(default_factory=list)  # means since the look before
    losses: list[float] = field(default_factory=list)  # of validation
    values: list[float] = field(default_factory=list)  # of validation
    best: State = field(default_factory=dict)  # the model at the early stop

    @property
    def early_stop(self) -> int:
        """The step at which the validation loss was lowest, the first among equals.

        Found afterwards, with the whole curve known, as in Frankle & Carbin 2019.
        """
        return self.steps[self.losses.index(min(self.losses))]

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain data; `Watched(**it)` reads it back."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def train_watched_(
    course: Course, validation: Split, metric: Metric, every: int, name: str | None = None
) -> Watched:
    """Take a course to its end, looking every `every` steps and after the last.

    With a `name` the course is saved from time to time under it, goes on from there when the file
    is there already, and the file is left for the caller to delete.
    """
    seen = Watched()
    under_way = UnderWay(name)
    if saved := under_way.found:
        with under_way.reading():
            course.go_to_(Place(**saved["place"]))
            seen = Watched(**saved["seen"])
    else:
        _look_(seen, course, validation, metric, None)
    while course.step < course.steps:
        losses = course.advance_((course.step // every + 1) * every)
        _look_(seen, course, validation, metric, sum(losses) / len(losses))
        if under_way.due:
            under_way.save_(place=course.place().to_dict(), seen=seen.to_dict())
    return seen


def _look_(
    seen: Watched, course: Course, validation: Split, metric: Metric, train_loss: float | None
) -> None:
    found = evaluate(
        course.model, validation, loss=course.measured_loss, metric=metric, device=course.device
    )
    seen.steps.append(course.step)
    seen.train_losses.append(train_loss)
    seen.losses.append(found.loss)
    seen.values.append(found.value)
    if seen.early_stop == course.step:
        seen.best = course.state()
