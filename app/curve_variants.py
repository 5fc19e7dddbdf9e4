"""Which recipes a comparison has: one and its variants, as pruned and fine-tuned."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from sparsity_core.recipe import Recipe, Training


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


def with_training(recipes: Sequence[Recipe], training: Training) -> list[Recipe]:
    """The same recipes as pruned and, when there are epochs, fine-tuned after each round."""
    if not training.epochs:
        return list(recipes)
    return [*recipes, *(replace(recipe, training=training) for recipe in recipes)]


def _unique(recipes: Sequence[Recipe]) -> list[Recipe]:
    return list(dict.fromkeys(recipes))
