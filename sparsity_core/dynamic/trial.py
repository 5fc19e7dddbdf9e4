"""One network of a plan, from its first step to its last, measured on the way.

A trial is a function of its training alone: what was saved when a process died is gone on from,
and what was not is trained again, with the same numbers either way.
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sparsity_core import checkpoint
from sparsity_core.checkpoint import UnderWay
from sparsity_core.cost import cost
from sparsity_core.dynamic.budgets import Budgets, budgets_of
from sparsity_core.dynamic.course import MovingCourse, Products
from sparsity_core.dynamic.film import Film
from sparsity_core.dynamic.row import MovingResult
from sparsity_core.dynamic.sparse_course import SparseCourse
from sparsity_core.errors import NonFiniteError
from sparsity_core.setting import evaluation_samples
from sparsity_core.task import Task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.train import evaluate
from sparsity_core.weights import Masks, prunable

if TYPE_CHECKING:
    from sparsity_core.dynamic.plan import MovingPlan
    from sparsity_core.dynamic.point import MovingPoint, OneTraining

AnyCourse = MovingCourse | SparseCourse


class Trial:
    """A network under training; `measure` takes its points in order."""

    def __init__(self, task: Task, plan: "MovingPlan", training: "OneTraining") -> None:
        self.task, self.plan, self.training = task, plan, training
        self._rows: dict[int, dict[str, Any]] = {}  # by step, of what was looked at
        self._stands: tuple[AnyCourse, Film, UnderWay] | None = None
        self._broken: NonFiniteError | None = None
        if saved := checkpoint.load(training.id):
            self._rows = saved["rows"]

    def measure(self, point: "MovingPoint") -> MovingResult:
        """The row of a point. Raises NonFiniteError from the step on at which training broke."""
        if point.step not in self._rows:
            if self._broken:
                raise self._broken
            try:
                self._train_(point.step)
            except NonFiniteError as error:
                self._broken = error
                raise
        blank = self.plan.unmeasured(point, "ok", "")
        return replace(blank, **self._rows[point.step])

    def _train_(self, until: int) -> None:
        """Look at every step of the plan's that is not past, up to this one."""
        course, film, under_way = self._standing()
        for step in self.plan.looks:
            if step in self._rows or step > until:
                continue
            losses = course.advance_(step)
            course.refresh_()
            film.add_(step, course.live)
            self._rows[step] = self._look(course, sum(losses) / len(losses) if losses else None)
            if step < self.plan.steps and under_way.due:
                under_way.save_(film=film.to_dict(), rows=self._rows, course=course.save())
        if until == self.plan.steps:
            seen = {"film": film.to_dict(), "rows": self._rows}
            end = {"masks": _on_cpu(course.live), "state": _on_cpu(course.plain_state())}
            checkpoint.save(self.training.id, seen | end)
            under_way.delete()

    def _standing(self) -> tuple[AnyCourse, Film, UnderWay]:
        """The course where it was saved, or before its first step."""
        if self._stands is None:
            self._rows = {}
            course = course_of(self.task, self.plan, self.training)
            film, under_way = Film.of(course.live), UnderWay(_under_way(self.training))
            if saved := under_way.found:
                with under_way.reading():
                    course.resume_(saved["course"])
                    film, self._rows = Film.from_dict(saved["film"]), saved["rows"]
            self._stands = course, film, under_way
        return self._stands

    def _look(self, course: AnyCourse, train_loss: float | None) -> dict[str, Any]:
        plan, task = self.plan, self.task
        options = {"loss": task.loss, "metric": task.metric, "device": plan.device}
        last = course.step == plan.steps
        samples = evaluation_samples(task, plan.setting) if last else None
        with course.as_used():
            seen = evaluate(course.model, task.validation, **options)  # type: ignore[arg-type]
            reported = evaluate(course.model, samples, **options) if samples else None  # type: ignore[arg-type]
        layers = prunable(task.model)
        living = {name: int(mask.sum()) for name, mask in course.live.items()}
        zeros = sum(layers[name].size - count for name, count in living.items())
        emptied = [name for name, count in living.items() if not count]
        dense_training = 3 * course.dense_macs * _samples_of(course)
        return {
            "achieved_sparsity": zeros / sum(layer.size for layer in layers.values()),
            "value": reported.value if reported else None,
            "validation_value": seen.value,
            "validation_loss": seen.loss,
            "train_loss": train_loss,
            "training_cost": course.spent / dense_training,
            "inference_cost": course.macs / course.dense_macs,
            "explored": course.history.explored,
            **course.history.take_(),
            "ablated": sum(course.history.ablated.values()),
            "layers": json.dumps(living),
            "samples": len(samples or task.validation),
            "status": "collapsed" if emptied else "ok",
            "message": f"no weight left in {', '.join(emptied)}" if emptied else "",
        }


def course_of(task: Task, plan: "MovingPlan", training: "OneTraining") -> AnyCourse:
    """A course before its first step."""
    model = fresh_model(task, training.seed)
    budgets = _budgets(task, plan, training)
    found = cost(task.model, task.train.inputs[:1])
    each = {layer.name: layer.macs / layer.parameters for layer in found.layers}
    others = found.other_macs + sum(
        layer.macs for layer in found.layers if layer.name not in budgets.kept
    )
    options: dict[str, Any] = {
        "loss": task.loss,
        "seed": training.seed,
        "products": Products({name: each[name] for name in budgets.kept}, others),
    }
    given = (model, task.train, plan.training, training.rule, budgets.kept)
    if plan.execution_of(training.rule) == "sparse":
        return SparseCourse(*given, **options)
    return MovingCourse(*given, device=plan.device, **options)


def ended(training: "OneTraining") -> tuple[Masks, dict[str, Tensor], Film] | None:
    """Final masks, weights as used, and the film of a training from its file; None without one."""
    saved = checkpoint.load(training.id)
    if saved is None:
        return None
    return saved["masks"], saved["state"], Film.from_dict(saved["film"])


def film_so_far(training: "OneTraining") -> Film | None:
    """The film of a training, ended or as it was last saved; None when there is none."""
    saved = checkpoint.load(training.id) or checkpoint.load(_under_way(training))
    return Film.from_dict(saved["film"]) if saved else None


def _budgets(task: Task, plan: "MovingPlan", training: "OneTraining") -> Budgets:
    sparsity = training.sparsity if training.sparsity is not None else plan.sparsities[0]
    budgets = budgets_of(task.model, training.rule, plan.allocation, sparsity, plan.skip)
    if training.matched is None:
        return budgets
    other = plan.one(training.seed, training.matched, None)
    if ended(other) is None:  # trained again when its file is gone, with the same numbers
        list(plan.run(task, [p for p in plan.points() if p.training == other]))
    found = ended(other)
    assert found is not None
    return replace(budgets, kept={name: int(mask.sum()) for name, mask in found[0].items()})


def _samples_of(course: AnyCourse) -> int:
    """How many samples all steps of a course see together."""
    whole, rest = divmod(course.steps, len(course.sizes))
    return whole * sum(course.sizes) + sum(course.sizes[:rest])


def _under_way(training: "OneTraining") -> str:
    return checkpoint.under_way(training.id)


def _on_cpu(tensors: Masks) -> Masks:
    return {name: value.cpu() for name, value in tensors.items()}
