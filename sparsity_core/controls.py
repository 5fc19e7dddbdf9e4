"""What a method has to beat: the same recipe with less thought in it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sparsity_core.recipe import Recipe
from sparsity_core.schedules import OneShot
from sparsity_core.scorers import Random


def with_random(recipes: Sequence[Recipe]) -> list[Recipe]:
    """The same recipes, and each once more with random scores: what a scorer has to beat."""
    return _unique([*recipes, *(replace(recipe, scorer=Random()) for recipe in recipes)])


def with_shuffled(recipes: Sequence[Recipe]) -> list[Recipe]:
    """The same recipes, and each once more with its masks shuffled within layers.

    What a ranking adds to the counts in each layer; random scores have no ranking to shuffle.
    """
    ranked = [recipe for recipe in recipes if recipe.scorer != Random()]
    return _unique([*recipes, *(replace(recipe, shuffled=True) for recipe in ranked)])


def with_scored_once(recipes: Sequence[Recipe]) -> list[Recipe]:
    """The same recipes, and each of several rounds once more with the dense model's scores.

    What it is worth to score the masked model anew in each round.
    """
    repeated = [recipe for recipe in recipes if recipe.schedule != OneShot()]
    return _unique([*recipes, *(replace(recipe, rescore=False) for recipe in repeated)])


def with_controls(
    recipes: Sequence[Recipe], *, random: bool, shuffled: bool, scored_once: bool
) -> list[Recipe]:
    """The recipes with the controls that were asked for."""
    recipes = with_random(recipes) if random else list(recipes)
    recipes = with_shuffled(recipes) if shuffled else recipes
    return with_scored_once(recipes) if scored_once else recipes


def _unique(recipes: Iterable[Recipe]) -> list[Recipe]:
    return list(dict.fromkeys(recipes))
