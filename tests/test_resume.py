"""Pruning and fine-tuning that was killed goes on where it was saved, to the same last bit."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.papers.experiment import Kept
from sparsity_core import checkpoint, rounds
from sparsity_core.checkpoint import UnderWay
from sparsity_core.cli.main import main
from sparsity_core.course import Course
from sparsity_core.curve import plan_curve
from sparsity_core.errors import SparsityError
from sparsity_core.executors import InProcess, WorkerProcesses
from sparsity_core.gradual import Gradual, prune_gradually_
from sparsity_core.jobs import Job
from sparsity_core.recipe import Recipe, Training
from sparsity_core.repairs import LeastSquares, repairs_from
from sparsity_core.rounds import name_of, run
from sparsity_core.schedules import Geometric
from sparsity_core.scorers import Taylor
from sparsity_core.setting import draw_batches
from sparsity_core.store import Store
from sparsity_core.task import load_task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.train import train_
from sparsity_core.tuning import Tuning
from sparsity_core.unsaved import telling

TRAINING = Training(epochs=3, rate=0.02)
STEPS = 3 * 17  # of a training: batches of 64 of the 1078 images
ONE_SHOT = Recipe(0.9, training=TRAINING)
ITERATIVE = Recipe(0.9, Taylor(), schedule=Geometric(3), training=TRAINING)
MENDED = dataclasses.replace(ITERATIVE, rescore=False, repair=repairs_from("least-squares"))
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
from tests.test_resume import plan_of
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


def plan_of(task):
    return plan_curve(task, recipes=RECIPES, sparsities=[0.9], samples=100)


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


def full(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_and_loses_no_work(task, tmp_path, whole, monkeypatch):
    monkeypatch.setattr(checkpoint.os, "fsync", full)
    plan = plan_of(task)
    with pytest.warns(UserWarning, match=r"cannot be written \(No space left.*goes on unsaved"):
        rows = list(plan.run(task, plan.points()[:1]))
    assert [numbers(row) for row in rows] == whole[:1]
    assert not list((tmp_path / "checkpoints").iterdir())  # nor what was written of it


def test_what_is_saved_again_is_told_too(monkeypatch):
    told, work = [], UnderWay("work")
    with telling(told.append):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.os, "fsync", full)
            work.save_(step=1)
        work.save_(step=2)
    assert "free space, or set SPARSITY_STORE" in told[0]
    assert told[1:] == [""]


UNSAVED = """
import torch
from torch import nn
from sparsity_core import checkpoint
from sparsity_core.task import task_of

checkpoint._LOST = 0.0  # in the worker process too

def make():
    torch.manual_seed(0)
    inputs = torch.randn(90, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    return task_of(model, (inputs, (inputs[:, 0] > 0).long()))
"""


@pytest.mark.parametrize("executor", [InProcess, WorkerProcesses])
def test_a_job_that_runs_says_that_its_work_is_not_saved(tmp_path, monkeypatch, executor):
    (tmp_path / "unsaved_model.py").write_text(UNSAVED)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "checkpoints").symlink_to(tmp_path / "gone")  # nothing can be written there
    recipe = Recipe(0.5, training=Training(steps=60))
    task = load_task("unsaved_model:make")
    plan, store = plan_curve(task, recipes=[recipe], sparsities=[0.5]), Store()
    job, runner, told, add = Job(plan, store), executor(), [], store.add
    monkeypatch.setattr(store, "add", lambda *row: (told.append(job.view.unsaved), add(*row)))
    job.run(runner)
    runner.close()
    assert job.view.state == "done"
    assert [row.status for row in store.rows(plan)] == ["ok"]
    (told,) = told
    assert "cannot be written (File exists); free space, or set SPARSITY_STORE" in told
    assert "the work goes on unsaved" in told
    assert job.view.unsaved == ""  # it is over


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


def test_names_tell_works_apart(task):
    how = {"seed": 0, "score_samples": 512, "device": "cpu"}
    others = [
        name_of(task, ITERATIVE, **how),
        name_of(task, ONE_SHOT.at(0.8), **how),
        name_of(task, dataclasses.replace(ONE_SHOT, training=Training(4, rate=0.02)), **how),
        *(name_of(task, ONE_SHOT, **how | {k: v}) for k, v in (("seed", 1), ("device", "cuda"))),
        name_of(task, ONE_SHOT, **how | {"score_samples": 100}),
        name_of(load_task("digits-lenet"), ONE_SHOT, **how),
        name_of(dataclasses.replace(task, train=task.train.take(100)), ONE_SHOT, **how),
    ]
    assert len({name_of(task, ONE_SHOT, **how), *others}) == len(others) + 1
    assert name_of(load_task("digits-mlp"), Recipe(0.9, training=TRAINING), **how) == name_of(
        task, ONE_SHOT, **how
    )


def test_epochs_are_told_once(task, monkeypatch):
    def train(under_way, told):
        model = load_task("digits-mlp").model
        losses = train_(
            model, task.train, TRAINING, under_way=under_way, on_epoch=lambda p: told.append(p)
        )
        return losses, model.state_dict()

    first, second, undisturbed = [], [], []
    killed(monkeypatch, Course, "_one_step_", 40, lambda: train(UnderWay("training"), first))
    losses, state = train(UnderWay("training"), second)
    expected, final = train(None, undisturbed)
    assert losses == expected
    assert same(state, final)
    assert [p.epoch for p in first] == [1, 2]
    assert first + second == undisturbed


def test_gradual_pruning_goes_on(task, monkeypatch):
    gradual = Gradual(begin=10, end=40, every=10)

    def train(under_way=None):
        told, model = [], fresh_model(task, 0)
        course = Course(model, task.train, TRAINING, loss=task.loss)
        batches = draw_batches(task.train, 100, 0, "cpu")
        losses = prune_gradually_(
            course, ONE_SHOT, gradual, batches, lambda step, _: told.append(step), under_way
        )
        return losses, course.masks, course.state(), told

    killed(monkeypatch, Course, "_one_step_", 33, lambda: train(UnderWay("gradual")))
    resumed, whole = train(UnderWay("gradual")), train()
    assert resumed[0] == whole[0]
    assert same(resumed[1], whole[1])
    assert same(resumed[2], whole[2])
    assert (resumed[3], whole[3]) == ([40], [10, 20, 30, 40])


def test_a_brief_fine_tune_goes_on_and_gives_what_was_seen_again(task, monkeypatch, steps):
    whole = Tuning(task, ONE_SHOT, every=10)
    expected = list(whole)
    killed(
        monkeypatch,
        Course,
        "_one_step_",
        33,
        lambda: list(Tuning(task, ONE_SHOT, every=10, under_way=UnderWay("tuning"))),
    )
    steps.clear()
    resumed = Tuning(task, ONE_SHOT, every=10, under_way=UnderWay("tuning"))
    assert list(resumed) == expected
    assert len(steps) == STEPS - 33
    assert resumed.looks == whole.looks
    assert same(resumed.best_state, whole.best_state)
    assert same(resumed.course.state(), whole.course.state())


def test_the_numbers_of_a_paper_are_kept_until_its_table_is_printed(tmp_path):
    measured = []

    def measure(under_way):
        measured.append(under_way("dense").found)
        under_way("dense").save_(place=1)
        if len(measured) == 1:
            raise Killed
        return [1.5, 2]

    with pytest.raises(Killed):
        Kept().numbers(["a paper", 0], measure)
    assert Kept().numbers(["a paper", 0], measure) == [1.5, 2.0]
    assert measured == [{}, {"place": 1}]  # the training goes on, and its file is then deleted
    kept = Kept()
    assert kept.numbers(["a paper", 0], measure) == [1.5, 2.0]
    assert len(measured) == 2
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    kept.forget()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_run_that_is_deleted_takes_its_files_along_but_none_of_another_s(
    task, tmp_path, monkeypatch, capsys
):
    plan, store = plan_of(task), Store()
    half = plan_curve(task, recipes=[ONE_SHOT], sparsities=[0.9], samples=100)
    shared, own = (checkpoint.under_way(point.id) for point in plan.points())
    folder, job = tmp_path / "checkpoints", Job(plan, store)
    # The first row cannot be stored and the second point dies on its way.
    with monkeypatch.context() as patch:
        patch.setattr(store, "add", lambda *_: None)
        patch.setattr(checkpoint, "delete", lambda _: None)
        killed(patch, Course, "_one_step_", STEPS + 40, lambda: job.run(InProcess(task)))
    (folder / f"{own}.4321").write_bytes(b"what a process that was killed left")
    for each in (plan, half):
        store.save_run(each, "interrupted")
    assert {path.stem for path in folder.iterdir()} == {shared, own}
    assert main(["runs", plan.digest, "--delete"]) == 0
    assert [path.stem for path in folder.iterdir()] == [shared]
    store.delete_run(half.digest)
    assert not list(folder.iterdir())
