"""A run that was killed goes on to the same last bit, and nothing is done twice."""

import dataclasses
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from sparsity_core import checkpoint, rounds
from sparsity_core.checkpoint import UnderWay
from sparsity_core.cli.main import main
from sparsity_core.course import Course
from sparsity_core.errors import SparsityError
from sparsity_core.executors import InProcess
from sparsity_core.jobs import Job
from sparsity_core.repairs import LeastSquares, repairs_from
from sparsity_core.rounds import run
from sparsity_core.store import Store
from tests.saved_work import (
    ITERATIVE,
    ONE_SHOT,
    STEPS,
    full,
    killed,
    plan_of,
    same,
    saved_often,
    steps,
    task,
)

__all__ = ["saved_often", "steps", "task"]


MENDED = dataclasses.replace(ITERATIVE, rescore=False, repair=repairs_from("least-squares"))


@pytest.mark.parametrize(
    ("recipe", "owner", "name", "calls", "left"),
    [
        (ONE_SHOT, Course, "_one_step_", 40, STEPS - 34),
        (ITERATIVE, Course, "_one_step_", STEPS + 20, 2 * STEPS - 17),
        (ITERATIVE, rounds, "prune", 2, STEPS + 17),  # after round 2, whose last part is made again
        (MENDED, LeastSquares, "repair_", 1, 2 * STEPS + 17),  # of round 2
        (MENDED, Course, "_one_step_", 2 * STEPS + 1, STEPS),
        (dataclasses.replace(MENDED, training=None), LeastSquares, "repair_", 2, 0),
    ],
)
def test_work_goes_on_from_where_it_was_saved(
    task, monkeypatch, steps, recipe, owner, name, calls, left
):
    *_, whole = run(task, recipe, seed=1)

    def work():
        return list(run(task, recipe, seed=1, under_way=UnderWay("work")))

    killed(monkeypatch, owner, name, calls, work)
    steps.clear()
    *_, resumed = work()
    assert len(steps) == left
    assert same(resumed.model.state_dict(), whole.model.state_dict())
    for part in ("scores", "units", "masks"):
        assert same(getattr(resumed.pruning, part), getattr(whole.pruning, part))
    for part in ("sparsities", "skipped"):
        assert getattr(resumed.pruning, part) == getattr(whole.pruning, part)
    assert resumed.losses == whole.losses
    assert (resumed.number, resumed.unrepaired) == (whole.number, whole.unrepaired)


KILLED = """
import os, signal, sys
import torch
from sparsity_core import checkpoint
from sparsity_core.course import Course
from sparsity_core.executors import InProcess, WorkerProcesses
from sparsity_core.gradual import Gradual, prune_gradually_
from sparsity_core.jobs import Job
from sparsity_core.setting import draw_batches
from sparsity_core.store import Store
from sparsity_core.task import load_task
from tests.saved_work import plan_of
torch.set_num_threads(1)
checkpoint._LOST = 0.0
left, one_step = int(sys.argv[1]), Course._one_step_
def deadly(course):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return one_step(course)
Course._one_step_ = deadly
task = load_task("digits-mlp")
Job(plan_of(task), Store()).run(InProcess(task))
"""


def numbers(row):
    return dataclasses.replace(row, seconds=0.0)


@pytest.fixture(scope="module")
def whole(task):
    """The rows of what nothing disturbs."""
    torch.set_num_threads(1)
    return [numbers(row) for row in plan_of(task).run(task, plan_of(task).points())]


@pytest.mark.parametrize(
    ("calls", "stored", "left"),
    [(40, 0, 4 * STEPS - 34), (2 * STEPS + 40, 1, 2 * STEPS - 34)],
    ids=["fine-tuning once", "round 2 of 3"],
)
def test_kill_9_changes_no_number(task, tmp_path, steps, whole, calls, stored, left):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", KILLED, str(calls)], env=environment)
    assert done.returncode == -signal.SIGKILL
    plan, store = plan_of(task), Store()
    assert len(store.rows(plan)) == stored
    (file,) = (tmp_path / "checkpoints").iterdir()
    assert file.stem == checkpoint.under_way(plan.points()[stored].id)
    job = Job(plan, store)
    job.run(InProcess(task))
    assert job.view.state == "done"
    assert len(steps) == left
    assert [numbers(row) for row in store.rows(plan)] == whole
    assert not list((tmp_path / "checkpoints").iterdir())


def test_rows_that_are_taken_leave_no_file(task, tmp_path, whole):
    plan = plan_of(task)
    rows = plan.run(task, plan.points())
    assert numbers(next(rows)) == whole[0]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1  # it is not yet in safety
    assert numbers(next(rows)) == whole[1]
    assert not list(rows)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_row_that_cannot_be_stored_is_not_trained_again(task, steps, whole, monkeypatch):
    plan, store = plan_of(task), Store()

    def full(*_):
        raise SparsityError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "add", full)
        job = Job(plan, store)
        job.run(InProcess(task))
    assert (job.view.state, job.view.message) == ("failed", "the disk is full")
    steps.clear()
    Job(plan, store).run(InProcess(task))
    assert len(steps) == 3 * STEPS + 17  # the last part, and the second point
    assert [numbers(row) for row in store.rows(plan)] == whole


def test_a_full_disk_is_told_and_loses_no_work(task, tmp_path, whole, monkeypatch):
    monkeypatch.setattr(checkpoint.os, "fsync", full)
    plan = plan_of(task)
    with pytest.warns(UserWarning, match=r"cannot be written \(No space left.*goes on unsaved"):
        rows = list(plan.run(task, plan.points()[:1]))
    assert [numbers(row) for row in rows] == whole[:1]
    assert not list((tmp_path / "checkpoints").iterdir())  # nor what was written of it


def test_a_damaged_file_is_named_and_another_work_is_not_taken(task, whole):
    plan = plan_of(task)
    point, other = plan.points()
    name = checkpoint.under_way(point.id)
    checkpoint.save(checkpoint.under_way(other.id), {"round": 7})
    checkpoint.save(name, {"round": 1, "pruning": {}, "unrepaired": {}, "place": {"step": 3}})
    path = checkpoint.checkpoint_path(name)
    for message in ("is not what was to be gone on with", "is damaged"):
        (row,) = plan.run(task, [point])
        assert row.status == "failed"
        assert f"{path}: {message}" in row.message
        assert "delete it" in row.message
        checkpoint.save(name, {"round": 1})
        path.write_bytes(path.read_bytes()[:300])
    path.unlink()
    assert [numbers(row) for row in plan.run(task, [point])] == whole[:1]


def test_what_is_taken_away_is_trained_once(task, tmp_path, steps, monkeypatch):
    file, out = tmp_path / "recipe.yaml", tmp_path / "out"
    file.write_text(ONE_SHOT.to_yaml())
    prune = ["prune", "digits-mlp", "--recipe", str(file), "--out", str(out), "--device", "cpu"]

    def full(*_):
        raise SparsityError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("sparsity_core.export.package.write_bytes", full)
        assert main(prune) == 2
    assert main(prune) == 0
    assert len(steps) == STEPS + 17
    *_, whole = run(task, ONE_SHOT)
    assert same(load_file(out / "model.safetensors"), whole.model.state_dict())
    assert not list((tmp_path / "checkpoints").iterdir())
