"""What the papers say, in seconds on 8x8 digits; on MNIST it is measured in benchmarks/papers."""

import statistics
from dataclasses import replace

import pytest
import torch

from benchmarks.papers.lth import claims_of
from benchmarks.papers.verdict import Claim
from sparsity_core.allocations import Global, Manual
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe, Training
from sparsity_core.rounds import run
from sparsity_core.scorers import Random, Snip
from sparsity_core.setting import draw_batches
from sparsity_core.task import load_task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.tickets.plan import plan_tickets
from sparsity_core.tickets.rule import Rule
from sparsity_core.train import evaluate, train_


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


@pytest.fixture(scope="module")
def lottery(task, tmp_path_factory):
    """Four rounds that leave 9.7 % of LeNet-300-100; rows by (arm, round)."""
    plan = plan_tickets(
        task,
        training=Training(
            steps=500, optimizer="adam", rate=1.2e-3, batch_size=60, rate_schedule="constant"
        ),
        rounds=4,
        rule=Rule(0.45, 0.2),
        arms=["reinitialised", "random", "other-order"],
        control_rounds=[0, 4],
        every=25,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSITY_STORE", str(tmp_path_factory.mktemp("lottery")))
        torch.set_num_threads(1)
        rows = list(plan.run(task, plan.points()))
    assert all(row.status == "ok" for row in rows)

    return {(row.arm, row.round): row for row in rows}


def test_tickets_learn_as_well_as_the_dense_network(lottery):
    # Frankle & Carbin 2019: 90 % of the weights are gone.
    ticket = lottery["ticket", 4]
    assert ticket.sparsity == pytest.approx(0.9, abs=0.005)
    assert ticket.value >= lottery["ticket", 0].value - 0.01


def test_it_takes_both_the_mask_and_the_first_weights(lottery):
    ticket, reinitialised, random = (
        lottery[arm, 4] for arm in ("ticket", "reinitialised", "random")
    )
    assert ticket.value > max(reinitialised.value, random.value)
    assert ticket.validation_loss < reinitialised.validation_loss < random.validation_loss
    assert ticket.early_stop <= reinitialised.early_stop


def test_lenet_is_stable_from_the_start(lottery):
    # Frankle et al. 2020: dense, and as a ticket.
    assert lottery["other-order", 0].barrier < 0.02
    assert lottery["other-order", 4].barrier < 0.02


def test_retraining_brings_back_what_pruning_took(task):
    # Han et al. 2015, table 3: 8, 9 and 26 % of the three layers stay.
    kept = {"fc1.weight": 0.08, "fc2.weight": 0.09, "fc3.weight": 0.26}
    recipe = Recipe(allocation=Manual(tuple((name, 1 - k) for name, k in kept.items())))
    *_, pruned = run(task, recipe)
    for name, share in kept.items():
        assert float(pruned.pruning.masks[name].float().mean()) == pytest.approx(share, abs=1e-3)
    # A fifth of the weights of the paper's first layer: 64 inputs, so the rate stays high.
    tuning = Training(epochs=15, rate=0.05)
    *_, retrained = run(task, replace(recipe, training=tuning))
    dense, before, after = (
        evaluate(model, task.test).value for model in (task.model, pruned.model, retrained.model)
    )
    assert before < dense - 0.05
    assert after >= dense - 0.02


def test_snip_before_training_beats_chance(task):
    # Lee et al. 2019: one mini-batch at first weights, one ranking over all layers, 98 % gone.
    training = Training(epochs=8, rate=0.1, batch_size=50)
    found = {}
    for scorer in (Snip(), Random()):
        values = []
        for seed in (0, 1):
            model = fresh_model(task, seed)
            probe = Probe(model, draw_batches(task.train, 100, seed, "cpu"), seed=seed)
            pruning = prune(probe, Recipe(0.98, scorer, allocation=Global()))
            train_(model, task.train, training, masks=pruning.masks, seed=seed)
            values.append(evaluate(model, task.test).value)
        found[type(scorer)] = statistics.mean(values)
    assert found[Snip] > found[Random] + 0.02


def test_a_verdict_by_eye():
    hit = Claim("error", "1.6", [1.5, 1.9], high=1.8, unit=" %")
    assert hit.cells() == ["error", "1.6", "1.7 +- 0.283 % (2)", "<= 1.8 %", "hit"]
    assert replace(hit, found=[1.9]).cells()[2:] == ["1.9 % (1)", "<= 1.8 %", "MISS"]
    assert replace(hit, found=[]).verdict == "not run"
    assert replace(hit, low=1.75).verdict == "MISS"


def test_the_lottery_table_pairs_seeds(lottery):
    dense = lottery["ticket", 0]
    rows = [
        replace(dense, seed=seed, early_value=0.97 + seed / 100, early_stop=1000) for seed in (0, 1)
    ]
    rows += [replace(row, round=7, early_value=0.985, early_stop=600) for row in rows[:1]]
    claims = {claim.what: claim for claim in claims_of(rows)}
    assert claims["dense accuracy at early stop"].found == pytest.approx([97, 98])
    # Seed 1 has no ticket yet: it counts in no difference.
    assert claims["21 %: accuracy at early stop - dense"].found == pytest.approx([1.5])
    assert claims["21 %: early stop / dense's"].found == pytest.approx([0.6])
    assert claims["21 %: early stop / dense's"].verdict == "hit"
    assert claims["3.6 %: accuracy at early stop - dense"].verdict == "not run"
