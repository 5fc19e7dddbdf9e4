"""A brief fine-tune: its steps are a course's, the best is kept, it ends when it is told to."""

from dataclasses import replace

import pytest
import torch

from sparsity_core.course import Course
from sparsity_core.errors import SparsityError
from sparsity_core.pace import Pace, pace_of
from sparsity_core.recipe import Recipe, Training
from sparsity_core.rounds import run
from sparsity_core.task import load_task
from sparsity_core.train import evaluate
from sparsity_core.tuning import Tuning

TRAINING = Training(steps=24, rate=0.02)
RECIPE = Recipe(0.9, training=TRAINING)


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


@pytest.fixture(scope="module")
def tuned(task):
    tuning = Tuning(task, RECIPE, every=10)
    return tuning, list(tuning)


def test_the_steps_are_those_of_a_course(task, tuned):
    _, steps = tuned
    *_, last = run(task, replace(RECIPE, training=None))
    course = Course(last.model, task.train, TRAINING, masks=last.pruning.masks)
    assert [step.loss for step in steps] == [None, *course.advance_()]
    assert [step.step for step in steps if step.look] == [0, 10, 20, 24]
    after = evaluate(course.model, task.validation)
    assert (steps[-1].look.loss, steps[-1].look.value) == (after.loss, after.value)


def test_the_best_is_kept_and_stays_sparse(task, tuned):
    tuning, _ = tuned
    assert tuning.best.loss == min(look.loss for look in tuning.looks)
    tuning.course.model.load_state_dict(tuning.best_state)
    assert evaluate(tuning.course.model, task.validation).loss == tuning.best.loss
    for name, mask in tuning.masks.items():
        assert not tuning.best_state[name][~mask].any()
    assert tuning.best.value > tuning.looks[0].value  # at 90 % there is much to win back


def test_who_stops_iterating_stops_the_training(task):
    tuning = Tuning(task, RECIPE, every=5)
    for step in tuning:
        if step.step == 7:
            break
    assert tuning.course.step == 7
    assert [look.step for look in tuning.looks] == [0, 5]
    assert [step.step for step in tuning][:1] == [8]  # and can go on


def test_patience_ends_it(task):
    # At this rate the loss only rises: the look before training stays the best.
    wild = Training(steps=500, rate=3.0, momentum=0.0, rate_schedule="constant", clip=1.0)
    tuning = Tuning(task, Recipe(0.1, training=wild), every=2, patience=3)
    steps = list(tuning)
    assert tuning.best.step == 0
    assert steps[-1].step == 6
    first = {name: value.clone() for name, value in tuning.best_state.items()}
    *_, last = run(task, Recipe(0.1))
    assert all(torch.equal(first[name], last.model.state_dict()[name]) for name in first)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [(Recipe(0.5), {}, "has no training"), (RECIPE, {"every": 0}, "1 or more")]
    + [(RECIPE, {"patience": 0}, "1 or more")],
)
def test_bad_requests(task, recipe, options, message):
    with pytest.raises(SparsityError, match=message):
        Tuning(task, recipe, **options)


def test_a_pace_by_eye_and_that_of_this_machine(task, monkeypatch):
    assert Pace(0.5, 2.0).seconds(40, 20) == 40 * 0.5 + 3 * 2.0
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    made, advance_ = [], Course.advance_

    def noted(course, until=None):
        made.append(-course.step)
        losses = advance_(course, until)
        made[-1] += course.step
        return losses

    monkeypatch.setattr(Course, "advance_", noted)
    found = pace_of(task, replace(TRAINING, steps=7))
    assert made == [5] * 6  # however short the training is: no turn is quick for want of steps
    assert found.step > 0
    assert found.look > 0
    assert pace_of(task, None).step == 0
    assert len(made) == 6
    assert all(torch.equal(before[name], task.model.state_dict()[name]) for name in before)
