"""Other work that goes on where it was saved: gradual pruning, fine-tunes, a paper's table."""

import dataclasses

import pytest

from benchmarks.papers.experiment import Kept
from sparsity_core import checkpoint
from sparsity_core.checkpoint import UnderWay
from sparsity_core.cli.main import main
from sparsity_core.course import Course
from sparsity_core.curve import plan_curve
from sparsity_core.executors import InProcess, WorkerProcesses
from sparsity_core.gradual import Gradual, prune_gradually_
from sparsity_core.jobs import Job
from sparsity_core.recipe import Recipe, Training
from sparsity_core.rounds import name_of
from sparsity_core.setting import draw_batches
from sparsity_core.store import Store
from sparsity_core.task import load_task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.train import train_
from sparsity_core.tuning import Tuning
from sparsity_core.unsaved import telling
from tests.saved_work import (
    ITERATIVE,
    ONE_SHOT,
    STEPS,
    TRAINING,
    Killed,
    full,
    killed,
    plan_of,
    same,
    saved_often,
    steps,
    task,
)

__all__ = ["saved_often", "steps", "task"]


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
