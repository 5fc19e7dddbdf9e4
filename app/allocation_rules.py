"""Every rule of the registry at one target, and what of it is nearly gone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from app.allocation_source import Outcome, Share, outcomes
from app.known_sweeps import Sweep
from app.state import Frame
from sparsity_core.allocations import ALLOCATIONS, Allocation, Sensitivity
from sparsity_core.recipe import Recipe
from sparsity_core.sweep.forecast import Forecast, predicted_rise

LEAST_SHARE = 0.01  # a layer that keeps less is nearly empty
LEAST_UNITS = 2  # so is one with fewer units left: what the structure takes or leaves as a whole


@dataclass(frozen=True)
class Ruled:
    """One rule's outcome, with its forecast where single layers were swept."""

    name: str
    outcome: Outcome
    forecast: Forecast | None = None

    @property
    def rule(self) -> str:
        """The name without its target."""
        return self.name.partition(" at ")[0]

    @property
    def reason(self) -> str | None:
        """Why there is no outcome."""
        return self.outcome.reason


def recipes_of_rules(frame: Frame, sweep: Sweep | None, target: float) -> dict[str, Recipe]:
    """Each rule as a recipe: the sidebar's scorer and structure, one round, untrained.

    A rule that the sidebar has chosen keeps its options there; `sensitivity` gets the sweep.
    """
    chosen = frame.recipe.allocation
    made: dict[str, Allocation] = {kind: ALLOCATIONS.make(kind) for kind in ALLOCATIONS}
    made[ALLOCATIONS.kind_of(chosen)] = chosen
    return {
        kind: plain(frame.recipe, with_curves(allocation, sweep), target)
        for kind, allocation in made.items()
        # One that goes by no target says nothing until somebody has given it something.
        if allocation.budget is not None or allocation == chosen
    }


def plain(recipe: Recipe, allocation: Allocation, target: float) -> Recipe:
    """The recipe's scorer and structure with another allocation, in one round, untrained."""
    return Recipe(target, recipe.scorer, recipe.structure, allocation, skip=recipe.skip)


def with_curves(allocation: Allocation, sweep: Sweep | None) -> Allocation:
    """The same allocation; `sensitivity` without curves takes those of the sweep."""
    if isinstance(allocation, Sensitivity) and not allocation.curves and sweep:
        return replace(allocation, curves=tuple(sweep.curves.items()))
    return allocation


def at_targets(recipes: Mapping[str, Recipe], targets: Sequence[float]) -> dict[str, Recipe]:
    """Each rule that goes by a target at each of the targets, under a name of its own."""
    return {
        f"{name} at {100 * target:g} %": recipe.at(target)
        for name, recipe in recipes.items()
        if recipe.allocation.budget is not None
        for target in targets
    }


def ruled(frame: Frame, sweep: Sweep | None, recipes: Mapping[str, Recipe]) -> list[Ruled] | None:
    """The outcome and forecast of each named recipe; None while they are being made."""
    found = outcomes(frame.model, frame.device, list(recipes.values()))
    if found is None:
        return None
    return [
        Ruled(name, outcome, forecast_of(outcome, sweep))
        for name, outcome in zip(recipes, found, strict=True)
    ]


def forecast_of(outcome: Outcome, sweep: Sweep | None) -> Forecast | None:
    """What the outcome should cost; None without a sweep or an outcome."""
    if sweep is None or outcome.reason:
        return None
    return predicted_rise(sweep.curves, outcome.achieved)


def table_of(rules: list[Ruled]) -> pd.DataFrame:
    """One row a rule and layer, in per cent."""
    return pd.DataFrame(
        [
            {
                "rule": rule.name,
                "layer": share.layer,
                "asked": 100 * share.asked,
                "achieved": 100 * share.achieved,
                "kept_share": 100 * share.kept / share.weights,
                "kept": share.kept,
                "weights": share.weights,
                "kept_units": share.kept_units,
                "units": share.units,
                "rise": rule.forecast.rises.get(share.layer) if rule.forecast else None,
                "mark": mark_of(share),
            }
            for rule in rules
            for share in rule.outcome.shares
        ]
    )


def mark_of(share: Share) -> str:
    """`emptied`, `nearly emptied`, or nothing to warn of."""
    if share.achieved <= 0:
        return ""
    if not share.kept:
        return "emptied"
    few = share.kept_units < LEAST_UNITS or share.kept < LEAST_SHARE * share.weights
    return "nearly emptied" if few else ""
