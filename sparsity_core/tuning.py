"""A brief fine-tune after pruning: seen step by step, stopped at any of them, the best kept."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from sparsity_core.checkpoint import UnderWay
from sparsity_core.copied import copied
from sparsity_core.course import Course, Place
from sparsity_core.errors import SparsityError
from sparsity_core.recipe import Recipe
from sparsity_core.rounds import run
from sparsity_core.task import Task
from sparsity_core.train import Evaluation, evaluate
from sparsity_core.weights import Masks


@dataclass(frozen=True)
class Look:
    """The validation split after so many steps."""

    step: int
    loss: float
    value: float  # of the metric


@dataclass(frozen=True)
class Step:
    """One step of fine-tuning; the first has no loss, for nothing was trained yet."""

    step: int
    loss: float | None  # of its batch
    look: Look | None  # where one was due


class Tuning:
    """A pruned model on its way through `recipe.training`, under its masks.

    Iterate over it to train; whoever stops iterating stops the training. A look every `every`
    steps chooses the best: the lowest validation loss. With `patience` it ends by itself after so
    many looks without a better one. With `under_way`, which the caller deletes, it goes on from
    where it was saved, and gives the steps before that again first. Raises SparsityError for a
    recipe without training.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        *,
        every: int = 10,
        patience: int | None = None,
        seed: int = 0,
        score_samples: int = 512,
        device: str = "cpu",
        under_way: UnderWay | None = None,
    ) -> None:
        if recipe.training is None:
            raise SparsityError("the recipe has no training; give it one to fine-tune")
        if every < 1 or (patience is not None and patience < 1):
            raise SparsityError(f"every and patience must be 1 or more, got {every}, {patience}")
        self._under_way = under_way or UnderWay()
        found = self._under_way.found
        model = copied(task.model)
        with self._under_way.reading():
            self.masks: Masks = found["masks"] if found else {}
        if not found:
            bare = replace(recipe, training=None)
            *_, last = run(task, bare, seed=seed, score_samples=score_samples, device=device)
            model, self.masks = last.model, last.pruning.masks
        self.course = Course(
            model,
            task.train,
            recipe.training,
            loss=task.loss,
            masks=self.masks,
            seed=seed,
            device=device,
        )
        self.every = every
        self.patience = patience
        self.looks: list[Look] = []
        self.best_state: dict[str, Tensor] = {}
        self._losses: list[float] = []  # of all steps
        self._again: list[Step] = []  # what was seen before it was saved
        if found:
            self._resume_(found)
        self._look = partial(
            evaluate, split=task.validation, loss=task.loss, metric=task.metric, device=device
        )

    @property
    def best(self) -> Look:
        """The look with the lowest loss, the first among equals."""
        return min(self.looks, key=lambda look: look.loss)

    def __iter__(self) -> Iterator[Step]:
        while self._again:
            yield self._again.pop(0)
        if not self.looks:
            yield Step(0, None, self._take_look())
        while self.course.step < self.course.steps and not self._tired():
            if self._under_way.due:
                self._save()
            (loss,) = self.course.advance_(self.course.step + 1)
            self._losses.append(loss)
            step = self.course.step
            due = step % self.every == 0 or step == self.course.steps
            yield Step(step, loss, self._take_look() if due else None)

    def _save(self) -> None:
        self._under_way.save_(
            masks=self.masks,
            place=self.course.place().to_dict(),
            losses=self._losses,
            looks=[astuple(look) for look in self.looks],
            best=self.best_state,
        )

    def _resume_(self, found: dict[str, Any]) -> None:
        with self._under_way.reading():
            self.course.go_to_(Place(**found["place"]))
            self.looks = [Look(*look) for look in found["looks"]]
            self._losses, self.best_state = found["losses"], found["best"]
        looks = {look.step: look for look in self.looks}
        steps = enumerate([None, *self._losses])
        self._again = [Step(step, loss, looks.get(step)) for step, loss in steps]

    def _tired(self) -> bool:
        since = len(self.looks) - 1 - self.looks.index(self.best)
        return self.patience is not None and since >= self.patience

    def _take_look(self) -> Look:
        found: Evaluation = self._look(self.course.model)
        look = Look(self.course.step, found.loss, found.value)
        self.looks.append(look)
        if look is self.best:
            self.best_state = self.course.state()
        return look
