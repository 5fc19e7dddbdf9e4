"""Sensitivity sweeps that are there to stand on: stored, or shipped with this version."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from app import cache
from sparsity_core.allocations import Sensitivity
from sparsity_core.errors import SparsityError
from sparsity_core.plans import row_from_dict
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.forecast import Curve, curves
from sparsity_core.sweep.plan import SweepPlan


@dataclass(frozen=True)
class Sweep:
    """One sweep's rows for one scorer and structure."""

    name: str
    source: str  # the Python that reads its rows again
    rows: tuple[Any, ...]
    curves: dict[str, Curve]  # the loss rise of each layer alone
    split: str
    samples: int

    @property
    def levels(self) -> int:
        """How many sparsities were asked for."""
        return len({row.sparsity for row in self.rows})

    @property
    def points(self) -> int:
        """How many of them have a sound number in every layer's curve, besides (0, 0)."""
        return min((len(curve) - 1 for curve in self.curves.values()), default=0)

    @property
    def text(self) -> str:
        """What the numbers stand on."""
        seeds = len({row.seed for row in self.rows})
        return (
            f"{self.name}: {len(self.curves)} layers, {self.levels} levels, {seeds} seed"
            f"{'s' if seeds > 1 else ''}, {self.samples:,} {self.split} samples"
        )


def with_curves(recipe: Recipe, model: str) -> Recipe:
    """The recipe; the allocation `sensitivity` gets the curves of its scorer and structure.

    Raises SparsityError when no sweep of them is known.
    """
    if not isinstance(recipe.allocation, Sensitivity):
        return recipe
    known = known_sweeps(model, recipe)
    if not known:
        raise SparsityError(
            f"sensitivity: no sweep of single layers with {SCORERS.label(recipe.scorer)} and "
            f"{STRUCTURES.label(recipe.structure)} is stored for {model}; run one on the "
            "Sensitivity or the Allocation page, or choose another allocation"
        )
    curves_of_layers = tuple(known[0].curves.items())
    return replace(recipe, allocation=replace(recipe.allocation, curves=curves_of_layers))


def known_sweeps(model: str, recipe: Recipe) -> list[Sweep]:
    """Sweeps with the recipe's scorer and structure, stored or shipped, the fullest first."""
    found = [sweep for sweep in [*_stored(model, recipe), *_shipped(model, recipe)] if sweep.curves]
    return sorted(found, key=lambda sweep: (len(sweep.curves), sweep.levels), reverse=True)


def _stored(model: str, recipe: Recipe) -> list[Sweep]:
    store, digest = cache.store(), cache.task(model).model_digest
    found = []
    for run in store.runs():
        if run.kind != SweepPlan.kind or run.model != model or not run.done:
            continue
        if run.state in ("queued", "running"):
            continue  # it would be passed over for a fuller one, and stay so when it is done
        plan: SweepPlan = store.plan(run.id)
        if plan.question:
            continue  # estimates on few samples, another number of them at each point
        if plan.setting.model_digest == digest and recipe.scorer in plan.scorers:
            source = f"Store().rows(Store().plan({run.id!r}))"
            found.append(_sweep(f"run {run.id[:8]}", source, recipe, store.rows(plan)))
    return found


def _shipped(model: str, recipe: Recipe) -> list[Sweep]:
    shipped = cache.entry(model).sensitivity()
    if not shipped:
        return []
    rows = [row_from_dict(SweepPlan.kind, row) for row in shipped["rows"]]
    shipped_rows = f"catalog()[{model!r}].sensitivity()['rows']"
    source = f"[row_from_dict('sweep', row) for row in {shipped_rows}]"
    return [_sweep("shipped with this version", source, recipe, rows)]


def _sweep(name: str, source: str, recipe: Recipe, rows: Sequence[Any]) -> Sweep:
    way = (SCORERS.label(recipe.scorer), STRUCTURES.label(recipe.structure))
    own = tuple(row for row in rows if (row.scorer, row.structure) == way)
    measured = next((row for row in own if row.samples), None)
    return Sweep(
        name,
        source,
        own,
        curves(own),
        measured.split if measured else "",
        measured.samples if measured else 0,
    )
