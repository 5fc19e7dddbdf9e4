"""Jobs: submitted twice, cancelled, out of disk; points are measured once and none is lost."""

import dataclasses
import resource

import pytest

from sparsity_core import executors, jobs
from sparsity_core.executors import InProcess
from sparsity_core.job_queue import JobQueue
from sparsity_core.jobs import Job, submit
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.sequential import Question
from sparsity_core.sweep.work import Speed, speed_of, work_of
from sparsity_core.task import load_task
from sparsity_core.weights import prunable
from tests.logged_plan import LEVELS, MODEL, Gate, comparable, log, plan_of, undisturbed

__all__ = ["log"]


def test_in_process(tmp_path, log):
    plan, store = plan_of(), Store(tmp_path)
    job = submit(plan, store, InProcess())
    assert job.wait(30)
    assert (job.view.state, job.view.done, job.view.failed) == ("done", 12, 0)
    found = [comparable(row) for row in store.rows(plan)]
    assert len(log.read_text().splitlines()) == 12
    assert found == undisturbed(plan)
    again = submit(plan, store, InProcess())
    assert again.wait(30)
    assert len(log.read_text().splitlines()) == 24  # twelve by `undisturbed`, none by the job


def test_the_same_plan_submitted_twice_is_one_job(tmp_path, log):
    gate = Gate()
    queue = JobQueue(Store(tmp_path), gate)
    first, second = queue.submit(plan_of()), queue.submit(plan_of())
    assert first is second
    other = queue.submit(plan_of([0.5]))
    assert other.view.state == "queued"
    gate.open.set()
    assert first.wait(180)
    assert other.wait(180)
    assert len(log.read_text().splitlines()) == 12 + 1
    queue.close()


def test_jobs_that_share_points_measure_them_once(tmp_path, log):
    queue = JobQueue(Store(tmp_path), InProcess())
    first = queue.submit(plan_of(LEVELS[:8]))
    second = queue.submit(plan_of(LEVELS[4:]))
    assert first.wait(180)
    assert second.wait(180)
    queue.close()
    assert (second.view.state, second.view.done, second.view.total) == ("done", 8, 8)
    assert len(log.read_text().splitlines()) == 12


def test_a_job_cancelled_in_the_queue_ends_at_once(tmp_path, log):
    store = Store(tmp_path)
    queue = JobQueue(store, Gate())
    queue.submit(plan_of())
    waiting = queue.submit(plan_of([0.5]))
    waiting.cancel()
    assert waiting.wait(1)
    assert waiting.view.state == store.run(waiting.id).state == "cancelled"
    again = queue.submit(plan_of([0.5]))
    assert again.view.state == store.run(again.id).state == "queued"
    queue.close()


def test_the_store_knows_the_end_before_the_view_tells_it(tmp_path, log):
    store = Store(tmp_path)
    seen = []

    class Told(Store):
        def set_state(self, run_id, state, message=""):
            seen.append((state, job.view.active))
            super().set_state(run_id, state, message)

    job = Job(plan_of([0.5]), Told(tmp_path))
    job.run(InProcess())
    assert seen == [("running", True), ("done", True)]
    assert store.run(job.id).state == job.view.state == "done"


def test_what_is_complete_needs_no_model(tmp_path, log, monkeypatch):
    plan, store = plan_of([0.5]), Store(tmp_path)
    store.add("sweep", list(plan.run(load_task(MODEL), plan.points())))
    monkeypatch.setattr(executors, "load_task", None)
    job = submit(plan, store, InProcess())
    assert job.wait(30)
    assert job.view.state == "done"


def test_time_left_goes_by_work_not_by_points(tmp_path, log, monkeypatch):
    task = load_task(MODEL)
    plan = plan_sweep(task, sparsities=LEVELS)
    speed = Speed(whole=5.0, behind={"fc1.weight": 4.0, "fc2.weight": 1.0})
    work = work_of(plan, speed, prunable(task.model))
    once = 72 * 5.0 / len(LEVELS)
    assert {work[p.id] for p in plan.points() if p.layer == "fc1.weight"} == {37 * 4 + once}
    assert {work[p.id] for p in plan.points() if p.layer == "fc2.weight"} == {37 * 1 + once}
    clock, seen = [0.0], []
    monkeypatch.setattr(jobs.time, "monotonic", lambda: clock[0])

    class Clocked(InProcess):
        def run(self, plan, groups, stopped):
            left = sum(work.values())
            for row in super().run(plan, groups, stopped):
                clock[0] += 2 * work[row.point_id]
                left -= work[row.point_id]
                yield dataclasses.replace(row, seconds=2 * work[row.point_id])
                seen.append((job.view.eta, 2 * left))

    job = Job(plan, Store(tmp_path), work=work)
    assert job.view.eta is None
    job.run(Clocked(task))
    assert [eta for eta, _ in seen[1:]] == pytest.approx([truth for _, truth in seen[1:]])
    assert job.view.eta is None


def test_early_answers_tell_the_time_left_at_most(tmp_path, log, monkeypatch):
    task = load_task(MODEL)
    plan = plan_sweep(task, sparsities=[0.5, 0.9], question=Question(threshold=0.5))
    samples = plan.setting.samples
    points = plan.points()
    clock = [0.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: clock[0])
    seen = []

    class Clocked(InProcess):
        def run(self, plan, groups, stopped):
            rows = list(super().run(plan, groups, stopped))
            for row in rows:  # a quarter of each first
                clock[0] += 1.0
                yield dataclasses.replace(row, status="open", samples=samples / 4)
            seen.append(job.view)
            for row in rows:
                clock[0] += 1.0
                yield dataclasses.replace(row, samples=samples / 2)  # and settled at the half
                seen.append(job.view)

    job = Job(plan, Store(tmp_path))
    job.run(Clocked(task))
    assert job.view.state == "done"
    assert all(view.at_most for view in seen)
    # In n seconds a quarter of n points; three quarters of each may be left, then of the others.
    n = len(points)
    expected = [3.0 * left for left in range(n, -1, -1)]
    assert [view.eta for view in seen] == pytest.approx(expected)


def test_skipped_points_are_no_work():
    task = load_task(MODEL)
    plan = plan_sweep(task, structures=["2:4"], sparsities=[0.5, 0.9])
    work = work_of(plan, speed_of(task.model, task.train.inputs), prunable(task.model))
    fits = {(p.layer, p.sparsity) for p in plan.points() if work[p.id]}
    assert fits == {("fc2.weight", 0.5)}  # fc1 has 6 inputs, and 2:4 has one sparsity


def test_a_full_disk_fails_the_job_and_it_resumes(tmp_path, log):
    levels = [i / 480 for i in range(2, 480)]
    plan, store = plan_of(levels), Store(tmp_path)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = max(p.stat().st_size for p in tmp_path.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300_000, old[1]))
    try:
        job = submit(plan, store, InProcess())
        assert job.wait(180)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert job.view.state == "failed"
    assert "disk is full" in job.view.message
    # The state could not be written either, yet it is known where it matters: it can be resumed.
    assert store.run(plan.digest).state == "failed"
    kept = len(store.rows(plan))
    assert 0 < kept < len(levels)
    again = submit(plan, Store(tmp_path), InProcess())
    assert again.wait(180)
    assert again.view.state == store.run(plan.digest).state == "done"
    assert len(store.rows(plan)) == len(levels)


def test_a_model_that_changed_since_the_plan_is_refused(tmp_path, log):
    plan = plan_of()
    old = dataclasses.replace(
        plan, setting=dataclasses.replace(plan.setting, model_digest="0" * 16)
    )
    job = submit(old, Store(tmp_path), InProcess())
    assert job.wait(30)
    assert job.view.state == "failed"
    assert "model digest has changed" in job.view.message
