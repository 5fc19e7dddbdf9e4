"""The allocations on screen as Python that anybody can run."""

from collections.abc import Sequence
from pprint import pformat
from typing import Any

from app.allocation_source import SCORE_SAMPLES
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.recipe import Recipe
from sparsity_core.registry import Registry
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES


def rules_python(model: str, recipes: Sequence[Recipe]) -> str:
    """The Python that prints the sparsity of each layer under each recipe."""
    allocations = [_said(ALLOCATIONS, recipe.allocation) for recipe in recipes]
    return f"""from sparsity_core.errors import SparsityError
{_probed(model)}
allocations = {_indented(allocations, 0)}
for allocation in allocations:
    recipe = {_recipe(recipes[0], "allocation", 4)}
    try:
        print(allocation, prune(probe, recipe).achieved)  # share of zeros, 0..1
    except SparsityError as reason:
        print(allocation, reason)"""


def forecast_python(model: str, recipe: Recipe, rows: str) -> str:
    """The Python that forecasts a recipe's loss rise; `rows` reads a sweep of single layers."""
    way = (SCORERS.label(recipe.scorer), STRUCTURES.label(recipe.structure))
    return f"""from sparsity_core.plans import row_from_dict
from sparsity_core.store import Store
from sparsity_core.sweep.forecast import curves, predicted_rise
from sparsity_core.task import catalog
{_probed(model)}
recipe = {_recipe(recipe, _indented(_said(ALLOCATIONS, recipe.allocation), 8), 0)}
rows = {rows}
alone = curves(row for row in rows if (row.scorer, row.structure) == {way!r})
forecast = predicted_rise(alone, prune(probe, recipe).achieved)
print(forecast.total, forecast.rises, forecast.unknown)  # nats; None when a layer is unknown"""


def _probed(model: str) -> str:
    return f"""from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.setting import draw_batches
from sparsity_core.task import load_task

task = load_task({model!r})
batches = draw_batches(task.train, {SCORE_SAMPLES}, seed=0, device="cpu")
probe = Probe(task.model, batches, task.loss, seed=0)"""


def _recipe(recipe: Recipe, allocation: str, indent: int) -> str:
    lines = [
        "Recipe.from_dict(",
        "    {",
        f"        'sparsity': {recipe.sparsity!r},",
        f"        'scorer': {_said(SCORERS, recipe.scorer)!r},",
        f"        'structure': {_said(STRUCTURES, recipe.structure)!r},",
        f"        'allocation': {allocation},",
        "    }",
        ")",
    ]
    return ("\n" + " " * indent).join(lines)


def _indented(data: Any, indent: int) -> str:
    text = pformat(data, width=96 - indent, compact=True, sort_dicts=False)
    return text.replace("\n", "\n" + " " * indent)


def _said(registry: Registry[Any], choice: Any) -> Any:
    """The kind alone where it says everything, else with its options."""
    kind = registry.kind_of(choice)
    return kind if registry.make(kind) == choice else registry.to_dict(choice)
