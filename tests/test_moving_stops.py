"""Trainings with moving masks that stop, are killed or break: the same rows, or a status."""

import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from sparsity_core import checkpoint
from sparsity_core.dynamic import RULES, Static
from sparsity_core.dynamic.trial import Trial, ended, film_so_far
from sparsity_core.errors import SparsityError
from sparsity_core.executors import InProcess
from sparsity_core.folder import default_folder
from sparsity_core.jobs import Job
from sparsity_core.store import Store
from tests.moving_task import TRAINING, plan_of, task

__all__ = ["task"]


def found(rows):
    """What was measured, without how long it took."""
    return [asdict(replace(row, seconds=0.0)) for row in rows]


@pytest.mark.parametrize("kind", ["rigl", "set", "sparse-momentum", "top-kast", "str", "gmp"])
def test_going_on_after_a_stop_gives_the_same_rows(task, monkeypatch, kind):
    monkeypatch.setattr(checkpoint, "_LOST", 0.0)
    options = {"every": 3} if "every" in RULES.options_of(kind) else {}
    plan = plan_of(task, [RULES.make(kind, **options)])
    points = [p for p in plan.points() if p.training == plan.trainings()[-1]]
    whole = found(plan.run(task, points))
    final = ended(points[0].training)
    checkpoint.free(plan.saved_under(), default_folder())
    assert ended(points[0].training) is None
    stopped = Trial(task, plan, points[0].training)
    for point in points[:3]:
        stopped.measure(point)
    assert film_so_far(points[0].training).steps == [0, 7, 14]
    # Rows 1 and 2 were saved but not stored: they are not trained again, and come out the same.
    assert found(plan.run(task, points[1:])) == whole[1:]
    again = ended(points[0].training)
    assert all(torch.equal(final[0][name], again[0][name]) for name in final[0])
    assert all(torch.equal(final[1][name], again[1][name]) for name in final[1])
    assert final[2].steps == again[2].steps == plan.looks
    # And when all is over the file alone gives every row.
    assert found(plan.run(task, points)) == whole


_KILLED = """
import os, signal
from sparsity_core import checkpoint
from sparsity_core.dynamic import RigL
from sparsity_core.executors import InProcess
from sparsity_core.jobs import Job
from sparsity_core.store import Store
from tests.moving_task import make_task, plan_of
import torch
torch.set_num_threads(1)
checkpoint._LOST = 0.0
update = RigL.update
def killed(self, state):
    if state.clock.step == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, state)
RigL.update = killed
task = make_task()
Job(plan_of(task), Store()).run(InProcess(task))
"""


def test_killed_in_the_middle_of_an_update(task, tmp_path, monkeypatch):
    plan = plan_of(task)
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path / "whole"))
    whole = found(plan.run(task, plan.points()))
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path / "killed"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", _KILLED], env=environment)
    assert done.returncode == -signal.SIGKILL
    store = Store()
    stored = store.rows(plan)
    assert [row.step for row in stored[-3:]] == [0, 7, 14]
    assert store.runs()[0].state == "interrupted"
    assert film_so_far(plan.trainings()[-1]).steps == [0, 7, 14]
    job = Job(store.plan(plan.digest), store)
    job.run(InProcess(task))
    assert job.view.state == "done"
    assert found(store.rows(plan)) == whole


def test_a_training_that_breaks_is_rows_with_a_status(task):
    plan = plan_of(task, training=replace(TRAINING, rate=1e30))
    rows = list(plan.run(task, plan.points()))
    first = [row for row in rows if row.rule == "dense"]
    assert [row.status for row in first] == ["ok"] + ["nan"] * 5
    assert "lower the rate" in first[-1].message
    assert first[-1].value is None


def test_a_layer_without_weights_is_collapsed(task):
    plan = plan_of(task, [Static()], sparsities=[1.0])
    row = list(plan.run(task, plan.points()))[-1]
    assert (row.status, row.achieved_sparsity) == ("collapsed", 1.0)
    assert row.message == "no weight left in 0.weight, 2.weight"


def test_another_state_of_the_model_is_refused(task):
    plan = plan_of(task)
    plan.check(task)
    other = replace(task, validation=task.test)
    with pytest.raises(SparsityError, match="validation digest has changed"):
        plan.check(other)
