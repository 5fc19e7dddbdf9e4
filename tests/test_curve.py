"""Whole-model recipes, round by round, before and after fine-tuning."""

import copy
import dataclasses
import json

import pytest
import torch

from sparsity_core.allocations import ERK, Global
from sparsity_core.behaviour import answers_of, columns
from sparsity_core.curve import plan_curve
from sparsity_core.errors import SparsityError
from sparsity_core.metrics import LOSS
from sparsity_core.plans import plan_from_dict, row_from_dict
from sparsity_core.recipe import Recipe, Training
from sparsity_core.rounds import run
from sparsity_core.schedules import SCHEDULES, Cubic, Geometric
from sparsity_core.scorers import Random, Taylor
from sparsity_core.store import Store
from sparsity_core.structures import NofM, OutChannel
from sparsity_core.task import load_task
from sparsity_core.train import evaluate
from sparsity_core.weights import sparsity_of

BRIEF = Training(epochs=1, rate=0.02)


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


@pytest.mark.parametrize("kind", SCHEDULES.kinds())
def test_rounds_reach_their_targets_exactly_and_keep_zeros(kind, task):
    before = copy.deepcopy(task.model.state_dict())
    recipe = Recipe(0.9, schedule=SCHEDULES.make(kind), training=BRIEF)
    previous = None
    for round_ in run(task, recipe, seed=1):
        weights = dict(round_.model.named_parameters())
        for name, mask in round_.pruning.masks.items():
            assert (weights[name][~mask] == 0).all()
            assert sparsity_of(mask) == pytest.approx(round_.sparsity, abs=1 / mask.numel())
            if previous:
                assert not (mask & ~previous[name]).any()
        previous = round_.pruning.masks
        assert len(round_.losses) == 1
    assert round_.number == round_.rounds == len(recipe.schedule.targets(0.9))
    assert all(torch.equal(before[k], v) for k, v in task.model.state_dict().items())


def test_fine_tuning_helps(task):
    recipe = Recipe(0.95)
    *_, pruned = run(task, recipe)
    *_, tuned = run(task, dataclasses.replace(recipe, training=Training(epochs=3, rate=0.02)))
    before = evaluate(pruned.model, task.validation).value
    after = evaluate(tuned.model, task.validation).value
    assert after > before + 0.05


def test_the_same_seed_gives_the_same_model_bit_for_bit(task):
    recipe = Recipe(0.9, Random(), schedule=Cubic(2), training=BRIEF)
    one, two, other = (list(run(task, recipe, seed=s))[-1].model.state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_n_of_m_takes_one_round(task):
    with pytest.raises(SparsityError, match="choose one-shot"):
        list(run(task, Recipe(0.5, structure=NofM(2, 4), schedule=Geometric(3))))


def test_a_curve_measures_what_run_gives(task):
    recipes = [Recipe(scorer=Taylor(), allocation=Global()), Recipe(training=BRIEF)]
    plan = plan_curve(task, recipes=recipes, sparsities=[0.5, 0.9], seeds=[0, 1])
    rows = list(plan.run(task, plan.points()))
    assert len(rows) == 8
    for point, row in zip(plan.points(), rows, strict=True):
        *_, last = run(task, point.recipe, seed=point.seed)
        measured = evaluate(last.model, task.validation)
        assert row.status == "ok"
        assert row.value == measured.value
        assert row.loss == pytest.approx(measured.loss)
        assert row.achieved_sparsity == pytest.approx(row.sparsity, abs=1e-4)
        assert row.finetune_epochs == (1 if point.recipe.training else 0)
        assert row.compression > 1 / (1 - row.sparsity) * 0.85
        assert row.mac_share == pytest.approx(1 - row.sparsity, abs=0.15)
        dense, targets = evaluate(task.model, task.validation), task.validation.targets
        right, was_right = measured.predictions == targets, dense.predictions == targets
        assert row.lost == int((was_right & ~right).sum())
        assert row.gained == int((right & ~was_right).sum())
        assert row.lost - row.gained == round((row.dense_value - row.value) * row.samples)
        for classes, own in ((row.class_values, right), (row.dense_class_values, was_right)):
            of_each = [own[targets == label].double().mean().item() for label in range(10)]
            assert json.loads(classes) == pytest.approx(of_each, abs=1e-6)
        answers = answers_of(last.model, task.validation)
        expected = columns(answers, targets)
        assert row.calibration_error == expected["calibration_error"]
        assert row.reliability == expected["reliability"]
        assert (
            row.dense_reliability
            == columns(answers_of(task.model, task.validation), targets)["reliability"]
        )


def test_nothing_is_said_of_the_classes_of_what_is_no_classifier(task):
    other = dataclasses.replace(task, metric=LOSS)
    plan = plan_curve(other, recipes=[Recipe()], sparsities=[0.5])
    (row,) = plan.run(other, plan.points())
    assert row.status == "ok"
    assert (row.lost, row.class_values, row.dense_reliability) == (None, None, None)


def test_statuses_of_a_curve(task):
    cases = {
        "skipped": (Recipe(structure=NofM(2, 4)), 0.8),
        "failed": (Recipe(structure=NofM(2, 4), allocation=ERK()), 0.5),
        "collapsed": (Recipe(structure=OutChannel()), 1.0),
        "ok": (Recipe(structure=NofM(2, 4), skip=("last",)), 0.5),
    }
    for status, (recipe, sparsity) in cases.items():
        plan = plan_curve(task, recipes=[recipe], sparsities=[sparsity])
        (row,) = plan.run(task, plan.points())
        assert row.status == status, row
        assert row.message
        assert (row.value is None) == (status in ("skipped", "failed"))


def test_a_model_without_a_parameter_left_is_stored_too(task, tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10, bias=False)).eval()
    bare = dataclasses.replace(task, model=model)
    plan = plan_curve(bare, recipes=[Recipe()], sparsities=[1.0])
    (row,) = plan.run(bare, plan.points())
    assert (row.status, row.compression) == ("collapsed", None)
    Store(tmp_path).add("curve", [row])
    assert Store(tmp_path).rows(plan) == [row]


def test_plans_and_rows_are_plain_data(task):
    plan = plan_curve(task, recipes=[Recipe(training=BRIEF), Recipe()], sparsities=[0.5])
    again = plan_from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert again.points() == plan.points()
    row = next(plan.run(task, plan.points()[1:]))
    assert row_from_dict("curve", json.loads(json.dumps(dataclasses.asdict(row)))) == row


def test_groups_hold_every_point_once_and_training_points_alone(task):
    recipes = [Recipe(), Recipe(training=BRIEF), Recipe(scorer=Random())]
    plan = plan_curve(task, recipes=recipes, sparsities=[0.5, 0.9])
    groups = plan.groups(plan.points())
    assert [p for group in groups for p in group] == plan.points()
    assert [len(group) for group in groups] == [2, 1, 1, 2]


def test_the_recipes_own_sparsity_does_not_decide_a_curve(task):
    one = plan_curve(task, recipes=[Recipe(0.3)], sparsities=[0.5])
    assert one.digest == plan_curve(task, recipes=[Recipe(0.7)], sparsities=[0.5]).digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipes": []}, "no recipes chosen"),
        ({"sparsities": []}, "no sparsities chosen"),
        ({"sparsities": [90]}, r"write 0\.9"),
        ({"recipes": [Recipe(skip=("fc9",))]}, "unknown layer"),
    ],
)
def test_bad_requests_name_the_remedy(options, message, task):
    with pytest.raises(SparsityError, match=message):
        plan_curve(task, **({"recipes": [Recipe()]} | options))
