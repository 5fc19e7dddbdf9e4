"""A recipe is data: it reads back equal, and equal recipes share a name."""

import pytest

from sparsity_core.errors import SparsityError
from sparsity_core.recipe import Recipe, Training
from sparsity_core.schedules import Geometric
from sparsity_core.scorers import Taylor
from sparsity_core.structures import NofM

RECIPE = Recipe(
    sparsity=0.5,
    scorer=Taylor(),
    structure=NofM(2, 4),
    schedule=Geometric(3),
    skip=("first",),
    training=Training(epochs=2, optimizer="adam"),
)


def test_yaml_round_trip():
    assert Recipe.from_yaml(RECIPE.to_yaml()) == RECIPE
    assert Recipe.from_yaml(RECIPE.to_yaml()).digest == RECIPE.digest


def test_short_yaml():
    recipe = Recipe.from_yaml("sparsity: 0.8\nscorer: taylor\nstructure: '2:4'\n")
    assert recipe == Recipe(sparsity=0.8, scorer=Taylor(), structure=NofM(2, 4))


def test_digests_tell_recipes_apart():
    assert Recipe(0.5).digest == Recipe(0.5).digest
    assert len({Recipe(0.5).digest, Recipe(0.6).digest, RECIPE.digest}) == 3


def test_the_digest_is_the_same_on_every_machine():
    # A literal: if it changes, every stored result is orphaned. Change it knowingly.
    assert Recipe(0.5).digest == "b270311b778ff8a8"


def test_a_default_spelt_out_is_the_same_recipe():
    spelt = Recipe.from_dict(RECIPE.to_dict() | {"rescore": True, "repair": [], "shuffled": False})
    assert spelt.digest == RECIPE.digest
    names = {
        Recipe(0.5).digest,
        Recipe(0.5, shuffled=True).digest,
        Recipe(0.5, rescore=False).digest,
    }
    assert len(names) == 3
    assert RECIPE.identity()["training"] == {"epochs": 2, "optimizer": "adam"}


@pytest.mark.parametrize(
    ("sparsity", "remedy"),
    [(-0.1, "0 to 1"), (1.5, r"write 0\.015"), (90, r"write 0\.9"), (float("nan"), "not a number")]
    + [(float("inf"), "0 to 1"), ("0.5", "not a number"), (True, "not a number")],
)
def test_bad_sparsity(sparsity, remedy):
    with pytest.raises(SparsityError, match=remedy):
        Recipe(sparsity=sparsity)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must be a mapping"),
        ("a: [", "not a recipe"),
        ("sparsty: 0.5", "did you mean 'sparsity'"),
        ("training: {epoch: 3}", "did you mean 'epochs'"),
        ("scorer: {kind: magnitud}", "did you mean 'magnitude'"),
        ("!!python/object/apply:os.system ['true']", "not a recipe"),
    ],
)
def test_bad_yaml(text, message):
    with pytest.raises(SparsityError, match=message):
        Recipe.from_yaml(text)


@pytest.mark.parametrize(
    "options",
    [{"epochs": -1}, {"epochs": 1.5}, {"batch_size": 0}, {"rate": -1.0}, {"optimizer": "sdg"}]
    + [{"rate": float("nan")}, {"clip": 0.0}, {"rate_schedule": "cosin"}],
)
def test_bad_training(options):
    with pytest.raises(SparsityError):
        Training(**options)
