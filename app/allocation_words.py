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
    first = recipes[0]
    allocations = [_said(ALLOCATIONS, recipe.allocation) for recipe in recipes]
    return f"""from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.setting import draw_batches
from sparsity_core.task import load_task

task = load_task({model!r})
batches = draw_batches(task.train, {SCORE_SAMPLES}, seed=0, device="cpu")
probe = Probe(task.model, batches, task.loss, seed=0)
allocations = {pformat(allocations, width=96, compact=True, sort_dicts=False)}
for allocation in allocations:
    recipe = Recipe.from_dict(
        {{
            "sparsity": {first.sparsity!r},
            "scorer": {_said(SCORERS, first.scorer)!r},
            "structure": {_said(STRUCTURES, first.structure)!r},
            "allocation": allocation,
        }}
    )
    try:
        print(allocation, prune(probe, recipe).achieved)  # share of zeros, 0..1
    except SparsityError as reason:
        print(allocation, reason)"""


def _said(registry: Registry[Any], choice: Any) -> Any:
    """The kind alone where it says everything, else with its options."""
    kind = registry.kind_of(choice)
    return kind if registry.make(kind) == choice else registry.to_dict(choice)
