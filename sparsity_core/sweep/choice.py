"""What a sweep answers: how sparse may each layer be, and the recipe that says so."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from sparsity_core.allocations import Manual, Sensitivity
from sparsity_core.errors import SparsityError
from sparsity_core.intervals import NO_INTERVAL
from sparsity_core.metrics import is_share
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.forecast import curves
from sparsity_core.sweep.point import Result


@dataclass(frozen=True)
class Choice:
    """The sparsest measured setting of a layer that keeps the loss; `row` None = stays dense."""

    layer: str
    row: Result | None
    message: str

    @property
    def sparsity(self) -> float:
        """As asked in the chosen point; 0 when the layer stays dense."""
        return self.row.sparsity if self.row else 0.0


def sparsest_within(
    rows: Iterable[Result], allowed_drop: float, cautious: bool = False
) -> list[Choice]:
    """For each layer the largest sparsity up to which every measured point stays within the drop.

    `allowed_drop`: in units of the metric (0.01 = one point of accuracy). `cautious` asks the whole
    95 % interval of the drop to stay within. Rows of one scorer, structure and seed; where there
    are several seeds, all of them must hold.
    """
    by_layer: dict[str, list[Result]] = {}
    for row in rows:
        by_layer.setdefault(row.layer, []).append(row)
    return [_choose(name, found, allowed_drop, cautious) for name, found in by_layer.items()]


def recipe_from(choices: Sequence[Choice], scorer: str, structure: str) -> Recipe:
    """The recipe that gives each layer its chosen sparsity; labels as the rows carry them.

    Its own `sparsity` is the plain mean over layers, for the record only: the manual allocation
    gives each layer what it says.
    """
    pairs = tuple((choice.layer, choice.sparsity) for choice in choices)
    return Recipe(
        sparsity=sum(sparsity for _, sparsity in pairs) / len(pairs) if pairs else 0.0,
        scorer=SCORERS.make(scorer),
        structure=STRUCTURES.make(structure),
        allocation=Manual(pairs),
    )


def guided_by(rows: Iterable[Result], recipe: Recipe) -> Recipe:
    """A `sensitivity` recipe that goes by the rows of a sweep with its scorer and structure.

    Raises SparsityError for another allocation, or when the sweep has no such rows.
    """
    if not isinstance(recipe.allocation, Sensitivity):
        raise SparsityError("curves of a sweep guide the allocation sensitivity; choose that one")
    way = (SCORERS.label(recipe.scorer), STRUCTURES.label(recipe.structure))
    found = curves(row for row in rows if (row.scorer, row.structure) == way)
    if not found:
        raise SparsityError(
            f"the sweep has no sound point with {way[0]} and {way[1]}; sweep with these"
        )
    return replace(recipe, allocation=replace(recipe.allocation, curves=tuple(found.items())))


def _lost(metric: str, drop: float, cautious: bool) -> str:
    if math.isinf(drop):
        return NO_INTERVAL
    if is_share(metric):
        return f"{'may lose up to' if cautious else 'loses'} {100 * drop:.1f} points"
    return f"{metric} {'may be' if cautious else 'is'} worse by {drop:.3g}"


def _choose(layer: str, rows: list[Result], allowed: float, cautious: bool) -> Choice:
    best: Result | None = None
    measured = sorted((r for r in rows if r.status != "skipped"), key=lambda r: r.sparsity)
    for sparsity, seeds in groupby(measured, key=lambda r: r.sparsity):
        worst = max(seeds, key=lambda r: _drop(r, cautious))
        if worst.status != "ok":
            return Choice(layer, best, f"{worst.status} at {100 * sparsity:.4g} %: {worst.message}")
        if (drop := _drop(worst, cautious)) > allowed:
            lost = _lost(worst.metric, drop, cautious)
            return Choice(layer, best, f"{lost} at {100 * sparsity:.4g} %")
        best = worst
    if best is None:
        return Choice(layer, None, rows[0].message)
    return Choice(layer, best, "the sparsest measured; sweep further")


def _drop(row: Result, cautious: bool) -> float:
    """The drop that decides; a point without a number counts as the worst."""
    drop = row.drop_high if cautious else row.drop
    return math.inf if drop is None or row.status != "ok" else drop
