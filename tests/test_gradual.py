"""Pruning while training: the cubic by eye, counts that only rise, and better than all at once."""

from itertools import pairwise

import pytest

from sparsity_core.course import Course
from sparsity_core.errors import SparsityError
from sparsity_core.gradual import Gradual, prune_gradually_
from sparsity_core.recipe import Recipe, Training
from sparsity_core.setting import draw_batches
from sparsity_core.task import load_task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.train import evaluate
from sparsity_core.weights import sparsity_of


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


def test_the_cubic_by_eye():
    gradual = Gradual(begin=100, end=300, every=100)
    assert gradual.steps() == [100, 200, 300]
    # Half way: 0.8 - 0.8 / 8.
    found = [gradual.sparsity(step, 0.8) for step in (0, 100, 200, 300, 500)]
    assert found == pytest.approx([0, 0, 0.7, 0.8, 0.8])
    assert Gradual(0, 10, 3).steps() == [0, 3, 6, 9, 10]
    assert Gradual(0, 10, 3, initial=0.4).sparsity(0, 0.8) == pytest.approx(0.4)


def course_of(task, steps=300):
    training = Training(steps=steps, rate=0.05, batch_size=50)
    return Course(fresh_model(task, 0), task.train, training)


def test_sparsity_rises_to_its_target_and_nothing_comes_back(task):
    course, batches = course_of(task), draw_batches(task.train, 100, 0, "cpu")
    seen, masks = [], []

    def note(step, target):
        assert course.step == step
        assert sparsity_of(course.masks["fc1.weight"]) == pytest.approx(target, abs=1e-4)
        seen.append(target)
        masks.append(dict(course.masks))

    losses = prune_gradually_(course, Recipe(0.95), Gradual(20, 200, 20), batches, note)
    assert len(losses) == course.step == 300
    assert seen == sorted(seen)
    assert seen[-1] == 0.95
    for before, after in pairwise(masks):
        assert not any((after[name] & ~before[name]).any() for name in after)
    for name, mask in masks[-1].items():
        weight = dict(course.model.named_parameters())[name]
        assert (weight[~mask] == 0).all()
        assert sparsity_of(mask) == pytest.approx(0.95, abs=1e-3)
    # As good as dense training of this length, nearly; cut at once at the end it is not.
    gradual = evaluate(course.model, task.test).value
    dense = course_of(task)
    dense.advance_(290)
    late = Gradual(290, 291)
    prune_gradually_(dense, Recipe(0.95), late, batches)
    assert gradual > evaluate(dense.model, task.test).value + 0.02
    assert gradual > 0.93


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gradual(10, 10), "0 <= begin < end"),
        (lambda: Gradual(0, 10, 0), "every >= 1"),
        (lambda: Gradual(-1, 10), "0 <= begin"),
    ],
)
def test_bad_requests(make, message):
    with pytest.raises(SparsityError, match=message):
        make()


def test_it_must_end_within_the_course(task):
    with pytest.raises(SparsityError, match="between the steps 0 and 300, got 0 to 301"):
        prune_gradually_(course_of(task), Recipe(0.5), Gradual(0, 301), [])
