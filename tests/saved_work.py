"""Work that is saved often and killed: a training, a way to die in it, what must stay equal."""

import errno
import os

import pytest
import torch

from sparsity_core import checkpoint
from sparsity_core.course import Course
from sparsity_core.curve import plan_curve
from sparsity_core.recipe import Recipe, Training
from sparsity_core.schedules import Geometric
from sparsity_core.scorers import Taylor
from sparsity_core.task import load_task

TRAINING = Training(epochs=3, rate=0.02)
STEPS = 3 * 17  # of a training: batches of 64 of the 1078 images
ONE_SHOT = Recipe(0.9, training=TRAINING)
ITERATIVE = Recipe(0.9, Taylor(), schedule=Geometric(3), training=TRAINING)

RECIPES = [ONE_SHOT, ITERATIVE]


class Killed(BaseException):
    """What no handler of the code under test catches."""


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


@pytest.fixture(autouse=True)
def saved_often(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path))
    monkeypatch.setattr(checkpoint, "_LOST", 0.0)


@pytest.fixture
def steps(monkeypatch):
    """The steps of each training that are made from here on, in order."""
    made, one_step = [], Course._one_step_

    def noted(course):
        made.append(course.step)
        return one_step(course)

    monkeypatch.setattr(Course, "_one_step_", noted)
    return made


def die(patch, owner, name, calls):
    """Let the call that follows so many others end the work."""
    left, ordinary = [calls], getattr(owner, name)

    def deadly(*arguments):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return ordinary(*arguments)

    patch.setattr(owner, name, deadly)


def killed(patch, owner, name, calls, work):
    """Begin some work that dies on the way."""
    with patch.context() as deadly:
        die(deadly, owner, name, calls)
        with pytest.raises(Killed):
            work()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def plan_of(task):
    return plan_curve(task, recipes=RECIPES, sparsities=[0.9], samples=100)


def full(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
