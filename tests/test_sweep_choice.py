"""The sparsest setting that a sweep shows within a loss, and the recipe it becomes."""

import dataclasses

from sparsity_core.sweep.choice import recipe_from, sparsest_within
from sparsity_core.sweep.plan import plan_sweep
from tests.test_sweep import tiny_task


def row_at(layer, sparsity, drop, high=None, status="ok", seed=0):
    task = tiny_task()
    plan = plan_sweep(task, layers=["first"], sparsities=[0.5])
    blank = plan.unmeasured(plan.points()[0], status, "why")
    return dataclasses.replace(
        blank, layer=layer, sparsity=sparsity, drop=drop, drop_high=high or drop, seed=seed
    )


def test_sparsest_setting_within_a_loss():
    rows = [
        row_at("a", 0.5, 0.0, 0.005),
        row_at("a", 0.7, 0.008, 0.02),
        row_at("a", 0.9, 0.05),
        row_at("b", 0.5, 0.03),
        row_at("b", 0.7, 0.0),  # beyond a failure: luck, not robustness
        row_at("c", 0.5, None, status="skipped"),
        row_at("d", 0.5, 0.0),
        row_at("d", 0.7, 0.3, status="collapsed"),
        row_at("e", 0.5, 0.0, seed=0),
        row_at("e", 0.5, 0.2, seed=1),
    ]
    chosen = {c.layer: c for c in sparsest_within(rows, 0.01)}
    assert {name: c.sparsity for name, c in chosen.items()} == {
        "a": 0.7,
        "b": 0.0,
        "c": 0.0,
        "d": 0.5,
        "e": 0.0,
    }
    assert "5.0 points at 90 %" in chosen["a"].message
    assert chosen["c"].message == "why"
    assert "collapsed" in chosen["d"].message
    cautious = {c.layer: c.sparsity for c in sparsest_within(rows, 0.01, cautious=True)}
    assert cautious["a"] == 0.5


def test_the_choice_becomes_a_recipe():
    recipe = recipe_from(sparsest_within([row_at("a", 0.5, 0.0)], 0.01), "taylor", "2:4")
    assert recipe.allocation.layers == (("a", 0.5),)
    assert recipe.from_yaml(recipe.to_yaml()) == recipe
