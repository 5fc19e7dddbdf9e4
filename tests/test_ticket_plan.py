"""Plans of tickets: plain data, points that stay the same, bad requests, the time it takes."""

import math
import time
from dataclasses import replace

import pytest

from sample_models.initial import glorot_normal_
from sample_models.mlp import MLP
from sparsity_core.errors import SparsityError
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.estimate import seconds_of
from sparsity_core.tickets.rule import Rule
from tests.ticket_plan import TRAINING, _own_files, plan_of, task

__all__ = ["_own_files", "task"]


def test_more_seeds_rounds_or_arms_keep_the_points_there_are(task):
    small = plan_of(task)
    large = plan_of(task, rounds=4, seeds=[0, 5], arms=list(ARMS), rewinds=[0, 3])
    ids = {point.id for point in large.points()}
    assert {point.id for point in small.points()} < ids
    assert plan_of(task, rule=Rule(0.4)).points()[0].id not in ids
    assert [len(group) for group in large.groups(large.points())] == [len(ids) // 2] * 2


def test_epochs_and_as_many_steps_are_one_plan(task):
    epochs = replace(TRAINING, steps=None, epochs=2, batch_size=400)
    assert len(task.train) % 400 != 0
    steps = 2 * math.ceil(len(task.train) / 400)
    assert plan_of(task, training=epochs) == plan_of(task, training=replace(epochs, steps=steps))


def test_controls_in_some_rounds_only(task):
    plan = plan_of(task, arms=["random", "dense"], control_rounds=[2])
    found = [(point.arm, point.round) for point in plan.points()]
    assert found == [("ticket", 0), ("ticket", 1), ("dense", 1)] + [
        (arm, 2) for arm in ("ticket", "random", "dense")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": []}, "no arms"),
        ({"arms": ["shufled"]}, "did you mean 'shuffled'"),
        ({"rewinds": [30]}, "rewind to a step from 0 to 29, got 30"),
        ({"seeds": []}, "no seeds"),
        ({"rounds": -1}, "rounds must be 0 or more"),
        ({"training": replace(TRAINING, steps=0)}, "at least one step"),
        ({"control_rounds": [3]}, "control rounds are from 0 to 2"),
        ({"every": 0}, "every must be 1"),
    ],
)
def test_bad_requests_name_the_remedy(options, message, task):
    with pytest.raises(SparsityError, match=message):
        plan_of(task, **options)


def test_another_start_or_other_data_are_noticed(task):
    plan = plan_of(task)
    with pytest.raises(SparsityError, match="fresh digest has changed"):
        plan.check(replace(task, fresh=lambda: glorot_normal_(MLP(64))))
    with pytest.raises(SparsityError, match="validation digest has changed"):
        plan.check(replace(task, validation=task.validation.take(100)))


def test_an_emptied_layer_is_no_verdict(task):
    plan = plan_of(task, rule=Rule(0.5, last_share=1.0), rounds=1)
    *_, row = plan.run(task, plan.points())
    assert row.status == "collapsed"
    assert "fc3.weight" in row.message
    assert row.value is not None


def test_the_estimate_is_of_the_right_size(task):
    plan = plan_of(task, training=replace(TRAINING, steps=300), rounds=0)
    started = time.perf_counter()
    list(plan.run(task, plan.points()))
    took = time.perf_counter() - started
    expected = seconds_of(task, plan)
    assert took / 8 < expected < took * 8  # the machine has other work
    assert seconds_of(task, plan, trainings=0) == 0
    assert seconds_of(task, plan_of(task, training=replace(TRAINING, steps=2))) > 0
