"""Which recipes a comparison has: one, and others that differ from it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from sparsity_core.recipe import Recipe


def variants(base: Recipe, others: dict[str, list[Any]], crossed: bool) -> list[Recipe]:
    """The base recipe first, then one choice changed at a time, or all combinations.

    `others`: further choices by field of a recipe.
    """
    if not crossed:
        changed = [replace(base, **{stage: one}) for stage, more in others.items() for one in more]
        return _unique([base, *changed])
    lists = [[getattr(base, stage), *more] for stage, more in others.items()]
    crossing = product(*lists)
    return _unique([replace(base, **dict(zip(others, one, strict=True))) for one in crossing])


def _unique(recipes: Sequence[Recipe]) -> list[Recipe]:
    return list(dict.fromkeys(recipes))
