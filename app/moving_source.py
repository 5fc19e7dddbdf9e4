"""An experiment with moving masks to be drawn: rows and films, stored here or shipped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app import cache
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.film import Film, unpacked
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.dynamic.point import OneTraining
from sparsity_core.dynamic.row import MovingResult
from sparsity_core.dynamic.trial import film_so_far
from sparsity_core.errors import SparsityError
from sparsity_core.plans import row_from_dict

EXAMPLE = "mnist-lenet-300-100"  # the model whose finished experiment ships with this version


@dataclass(frozen=True, eq=False)
class Experiment:
    """What the page draws."""

    plan: MovingPlan
    rows: Sequence[MovingResult]
    image: tuple[int, ...]  # of an input, without the batch
    command: str = ""  # of a shipped one
    shipped: Mapping[str, Any] = field(default_factory=dict)  # id of a training -> its film

    def film(self, training: OneTraining) -> Film | None:
        """The film of a training; None when its file is not here or not begun."""
        if self.command:
            return unpacked(self.shipped[training.id]) if training.id in self.shipped else None
        return film_so_far(training)

    def filmed(self) -> list[OneTraining]:
        """The trainings with a film, whose masks move, by rule and sparsity first."""
        stored = {(row.rule, row.sparsity, row.seed) for row in self.rows if not row.matched}
        found = [
            t
            for t in self.plan.trainings()
            if t.matched is None and (RULES.label(t.rule), t.sparsity, t.seed) in stored
        ]
        found = [t for t in found if not self.command or t.id in self.shipped]
        moving = [t for t in found if RULES.kind_of(t.rule) not in ("dense", "static")]
        return sorted(moving or found, key=lambda t: t.seed)


def stored(plan: MovingPlan) -> Experiment:
    """What the store has of a plan."""
    known = plan.model in cache.models() and cache.models()[plan.model] is None
    image = tuple(cache.task(plan.model).train.inputs.shape[1:]) if known else ()
    return Experiment(plan, cache.store().rows(plan), image)


def example() -> Experiment | None:
    """The finished experiment that ships with this version; None where none is installed."""
    if EXAMPLE not in cache.models():
        return None
    found = cache.entry(EXAMPLE).moving()
    if not found:
        return None
    try:
        rows = [row_from_dict(MovingPlan.kind, row) for row in found["rows"]]
        plan = MovingPlan.from_dict(found["plan"])
        image = tuple(found["image"])
    except (KeyError, TypeError) as error:
        raise SparsityError(f"the shipped experiment cannot be read ({error!r})") from error
    return Experiment(plan, rows, image, found["command"], found["films"])  # type: ignore[arg-type]
