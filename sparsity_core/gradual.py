"""Pruning while training: the sparsity rises along a cubic as the weights are still learning."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sparsity_core.checkpoint import UnderWay
from sparsity_core.course import Course
from sparsity_core.errors import SparsityError
from sparsity_core.probe import Batch, Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.resume import advance_, resume_


@dataclass(frozen=True)
class Gradual:
    """Prune every `every` steps from step `begin` to step `end`; train on under the last masks.

    s_t = s_f + (s_i - s_f) (1 - (t - begin) / (end - begin))^3, with s_i = `initial` and s_f the
    recipe's sparsity, which the last pruning meets exactly (Zhu & Gupta 2017, arXiv 1710.01878).
    The rate must still be high when it ends, or what is cut last cannot be made up for.
    """

    begin: int
    end: int
    every: int = 100
    initial: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end or self.every < 1:
            raise SparsityError(
                f"gradual: 0 <= begin < end and every >= 1, got begin {self.begin}, end "
                f"{self.end}, every {self.every}"
            )

    def sparsity(self, step: int, final: float) -> float:
        """What is asked for at a step."""
        left = 1 - min(max((step - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return final + (self.initial - final) * left**3

    def steps(self) -> list[int]:
        """When is pruned, in order; the last is `end`."""
        return [*range(self.begin, self.end, self.every), self.end]


def prune_gradually_(
    course: Course,
    recipe: Recipe,
    gradual: Gradual,
    batches: list[Batch],
    on_pruned: Callable[[int, float], None] | None = None,
    under_way: UnderWay | None = None,
) -> list[float]:
    """Take a course to its end while pruning it by a recipe; each step's loss.

    Scores are made anew each time, on `batches`; what is gone stays gone. The recipe's schedule,
    repair and training play no part. With `under_way` a course before its first step goes on from
    where it was saved, with the same result; `on_pruned` hears of what comes then. Raises
    SparsityError when the course ends before the pruning, or has passed its beginning.
    """
    if gradual.end > course.steps or gradual.begin < course.step:
        raise SparsityError(
            f"gradual: prune between the steps {course.step} and {course.steps}, got "
            f"{gradual.begin} to {gradual.end}"
        )
    under_way = under_way or UnderWay()
    pruned = -1  # the step of the last pruning that was saved
    if found := under_way.found:
        with under_way.reading():
            course.mask_(found["masks"])
            pruned = found["pruned"]
    losses = resume_(course, under_way)
    for step in gradual.steps():
        under_way.along = {"masks": course.masks, "pruned": pruned}
        if step <= pruned:
            continue
        advance_(course, step, losses, under_way)
        target = gradual.sparsity(step, recipe.sparsity)
        probe = Probe(course.model, batches, course.measured_loss, course.masks, course.seed)
        course.mask_(prune(probe, replace(recipe, sparsity=target)).masks)
        pruned = step
        if on_pruned:
            on_pruned(step, target)
    under_way.along = {"masks": course.masks, "pruned": pruned}
    advance_(course, course.steps, losses, under_way)
    return losses
