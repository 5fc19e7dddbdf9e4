"""Jobs: killed, cancelled, submitted twice, out of disk; nothing is lost and nothing runs twice."""

import dataclasses
import multiprocessing as mp
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from sparsity_core import executors, jobs
from sparsity_core.executors import InProcess, WorkerProcesses
from sparsity_core.job_queue import JobQueue
from sparsity_core.jobs import Job, submit
from sparsity_core.scorers import SCORERS
from sparsity_core.store import Store
from sparsity_core.sweep.plan import SweepPlan, plan_sweep
from sparsity_core.sweep.sequential import Question
from sparsity_core.sweep.work import Speed, speed_of, work_of
from sparsity_core.task import load_task
from sparsity_core.weights import prunable
from sparsity_core.worker import serve

MODEL = "tests.count_executions:task"
LEVELS = [i / 48 for i in range(2, 48, 4)]  # 12 whole numbers of the 48 weights of fc1


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "log"
    monkeypatch.setenv("EXECUTIONS", str(path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    return path


def plan_of(levels=LEVELS, **options):
    return plan_sweep(load_task(MODEL), layers=["fc1"], sparsities=levels, **options)


def undisturbed(plan):
    return [comparable(row) for row in plan.run(load_task(MODEL), plan.points())]


def comparable(row):
    return dataclasses.replace(row, seconds=0, device="", versions="")


def wait_until(condition, seconds=180.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


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


def test_workers_give_the_same_table(tmp_path, log):
    plan, store = plan_of(scorers=["magnitude", "random"]), Store(tmp_path)
    workers = WorkerProcesses(2)
    job = submit(plan, store, workers)
    assert job.wait(180)
    workers.close()
    assert job.view.state == "done"
    assert len(log.read_text().splitlines()) == 24
    assert [comparable(row) for row in store.rows(plan)] == undisturbed(plan)


def test_workers_load_no_streamlit():
    program = "import sys, sparsity_core.worker; print('streamlit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_workers_that_cannot_start_fail_the_job_at_once(tmp_path, log, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    job = submit(plan_of(), Store(tmp_path), WorkerProcesses())
    assert job.wait(10)
    assert job.view.state == "failed"
    assert "could not start (exit code 1)" in job.view.message


def test_a_killed_worker_is_replaced_and_nothing_runs_twice(tmp_path, log, monkeypatch):
    monkeypatch.setenv("SECONDS_A_POINT", "0.15")
    plan, store, workers = plan_of(), Store(tmp_path), WorkerProcesses()
    job = submit(plan, store, workers)
    wait_until(lambda: job.view.done >= 3)
    os.kill(workers._workers[0].process.pid, signal.SIGKILL)
    assert job.wait(180)
    workers.close()
    assert (job.view.state, job.view.done, job.view.failed) == ("done", 12, 0)
    monkeypatch.setenv("SECONDS_A_POINT", "0")
    runs = log.read_text().splitlines()
    assert len(set(runs)) == 12
    assert len(runs) <= 13  # only the point that was under way starts again
    assert [comparable(row) for row in store.rows(plan)] == undisturbed(plan)


def test_a_point_that_kills_its_worker_is_a_failed_row(tmp_path, log, monkeypatch):
    monkeypatch.setenv("DEADLY_ZEROS", "14")
    plan, store, workers = plan_of(), Store(tmp_path), WorkerProcesses()
    job = submit(plan, store, workers)
    assert job.wait(180)
    assert (job.view.state, job.view.done, job.view.failed) == ("done", 12, 1)
    (failed,) = [row for row in store.rows(plan) if row.status == "failed"]
    assert failed.sparsity == 14 / 48
    assert "died twice (signal 9)" in failed.message
    assert failed.value is None
    monkeypatch.setenv("DEADLY_ZEROS", "-1")
    workers.close()
    again = submit(plan, store, workers, retry_failed=True)
    assert again.wait(180)
    workers.close()
    assert {row.status for row in store.rows(plan)} == {"ok"}
    assert log.read_text().splitlines().count("14 0") == 3


def test_cancel_within_five_seconds_and_resume(tmp_path, log, monkeypatch):
    monkeypatch.setenv("SECONDS_A_POINT", "60")
    plan, store = plan_of(), Store(tmp_path)
    queue = JobQueue(store, WorkerProcesses())
    job = queue.submit(plan)
    wait_until(lambda: log.exists())
    started = time.monotonic()
    job.cancel()
    assert job.wait(5)
    assert time.monotonic() - started < 5
    assert job.view.state == store.run(plan.digest).state == "cancelled"
    monkeypatch.setenv("SECONDS_A_POINT", "0")
    resumed = queue.resume(plan.digest)
    assert resumed.wait(180)
    assert resumed.view.state == "done"
    queue.close()


def test_the_same_plan_submitted_twice_is_one_job(tmp_path, log, monkeypatch):
    monkeypatch.setenv("SECONDS_A_POINT", "0.05")
    queue = JobQueue(Store(tmp_path), WorkerProcesses())
    first, second = queue.submit(plan_of()), queue.submit(plan_of())
    assert first is second
    other = queue.submit(plan_of([0.5]))
    assert other.view.state == "queued"
    assert first.wait(180)
    assert other.wait(180)
    assert len(log.read_text().splitlines()) == 12 + 1
    queue.close()


def test_jobs_that_share_points_measure_them_once(tmp_path, log, monkeypatch):
    monkeypatch.setenv("SECONDS_A_POINT", "0.05")
    queue = JobQueue(Store(tmp_path), WorkerProcesses())
    first = queue.submit(plan_of(LEVELS[:8]))
    second = queue.submit(plan_of(LEVELS[4:]))
    assert first.wait(180)
    assert second.wait(180)
    queue.close()
    assert (second.view.state, second.view.done, second.view.total) == ("done", 8, 8)
    assert len(log.read_text().splitlines()) == 12


def test_a_job_cancelled_in_the_queue_ends_at_once(tmp_path, log, monkeypatch):
    monkeypatch.setenv("SECONDS_A_POINT", "60")
    store = Store(tmp_path)
    queue = JobQueue(store, WorkerProcesses())
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


def test_a_prepared_worker_measures_whatever_comes_next(tmp_path, log, monkeypatch):
    workers, plan, store = WorkerProcesses(), plan_of([0.5]), Store(tmp_path)
    setting = dataclasses.replace(plan.setting, model="tests.nowhere:task")
    workers.prepare(dataclasses.replace(plan, setting=setting))
    workers.prepare(plan)
    assert submit(plan, store, workers).wait(180)
    workers.close()
    assert [row.status for row in store.rows(plan)] == ["ok"]


SERVER = """
import sys
from sparsity_core.executors import WorkerProcesses
from sparsity_core.jobs import submit
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.sequential import Question
from sparsity_core.task import load_task
if __name__ == "__main__":
    task = load_task("tests.count_executions:task")
    plan = plan_sweep(task, layers=["fc1"], sparsities=[i / 48 for i in range(2, 48, 4)])
    job = submit(plan, Store(sys.argv[1]), WorkerProcesses())
    while not job.wait(0.05):
        print(job.view.done, flush=True)
"""


def test_a_killed_server_loses_no_stored_point_and_leaves_no_orphan(tmp_path, log, monkeypatch):
    monkeypatch.setenv("HELD_AFTER", "4")
    program = tmp_path / "server.py"
    program.write_text(SERVER)
    command = [sys.executable, str(program), str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout
    assert server.stderr
    for line in server.stdout:
        if int(line) >= 4:
            break
    children = psutil.Process(server.pid).children(recursive=True)
    server.kill()
    server.wait()
    server.stdout.close()
    psutil.wait_procs(children, timeout=5)
    assert not [child for child in children if child.is_running()]
    with server.stderr as said:
        assert said.read() == ""
    store, plan = Store(tmp_path), plan_of()
    info = store.run(plan.digest)
    assert info.state == "interrupted"
    assert info.done == 4
    before = len(log.read_text().splitlines())
    monkeypatch.delenv("HELD_AFTER")
    workers = WorkerProcesses()
    job = submit(store.plan(info.id), store, workers)
    assert job.wait(180)
    workers.close()
    assert len(log.read_text().splitlines()) == before + 12 - info.done
    assert store.run(plan.digest).state == "done"
    assert [comparable(row) for row in store.rows(plan)] == undisturbed(plan)


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


def test_a_model_that_cannot_be_loaded_fails_the_job_with_its_reason(tmp_path, log):
    plan = plan_of()
    broken = dataclasses.replace(
        plan, setting=dataclasses.replace(plan.setting, model="tests.nowhere:task")
    )
    workers = WorkerProcesses()
    job = submit(broken, Store(tmp_path), workers)
    assert job.wait(180)
    workers.close()
    assert job.view.state == "failed"
    assert "tests.nowhere" in job.view.message


def made_elsewhere(tmp_path, monkeypatch, body):
    """A plan for a model whose factory behaves so in a worker process."""
    code = f"import os, sys, subprocess\nimport tests.count_executions\n{body}"
    (tmp_path / "elsewhere.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    plan = plan_of()
    return dataclasses.replace(
        plan, setting=dataclasses.replace(plan.setting, model="elsewhere:make")
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def make(): sys.exit(3)", r"could not start \(exit code 3\)"),
        ("def make(): os.kill(os.getpid(), 9)", r"died \(signal 9\) before they could measure"),
    ],
)
def test_a_model_that_ends_its_worker_is_not_tried_for_every_point(
    tmp_path, log, monkeypatch, body, message
):
    plan, store = made_elsewhere(tmp_path, monkeypatch, body), Store(tmp_path)
    job = submit(plan, store, WorkerProcesses())
    assert job.wait(180)
    assert job.view.state == "failed"
    assert re.search(message, job.view.message)
    assert store.rows(plan) == []


@dataclasses.dataclass(frozen=True)
class OnlyHere:
    memory = 1.0

    def score(self, probe):
        """The scorer of a notebook: no other process has it."""
        return dict(probe.weights)


def test_a_scorer_that_workers_do_not_have_is_refused_in_one_line(tmp_path, log, monkeypatch):
    monkeypatch.setattr(SCORERS, "_classes", dict(SCORERS._classes))
    SCORERS.register("only-here")(OnlyHere)
    job = submit(plan_of(scorers=["only-here"]), Store(tmp_path), WorkerProcesses())
    assert job.wait(180)
    assert job.view.state == "failed"
    assert "unknown scorer 'only-here'" in job.view.message


def test_what_a_model_started_cannot_hold_up_its_dead_worker(tmp_path, log, monkeypatch):
    child = "subprocess.Popen(['sleep', '600'], close_fds=False)"
    plan = made_elsewhere(
        tmp_path, monkeypatch, f"def make():\n    {child}\n    return tests.count_executions.task()"
    )
    monkeypatch.setenv("DEADLY_ZEROS", "14")
    workers = WorkerProcesses()
    job = submit(plan, Store(tmp_path), workers)
    assert job.wait(180)  # less than the child lives
    workers.close()
    assert (job.view.done, job.view.failed) == (12, 1)


def test_a_worker_names_the_points_of_a_plan_once(log, monkeypatch):
    # A plan of 10 000 points took 0.4 s to name, before each of its 2 000 groups.
    plan, named = plan_of(), []
    real = SweepPlan.points
    monkeypatch.setattr(SweepPlan, "points", lambda self: named.append(1) or real(self))
    ours, theirs = mp.Pipe()

    def work():
        with suppress(EOFError):
            serve(theirs)

    worker = threading.Thread(target=work)
    worker.start()
    for point in real(plan)[:3]:
        ours.send((plan.to_dict(), [point.id], ""))
        assert ours.recv() is None
        assert ours.recv()["point_id"] == point.id
    ours.close()
    worker.join(10)
    theirs.close()
    assert len(named) == 1


def test_workers_share_the_threads_that_torch_may_use(tmp_path, log, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plan, store, workers = plan_of([0.5]), Store(tmp_path), WorkerProcesses()
    assert submit(plan, store, workers).wait(180)
    workers.close()
    (row,) = store.rows(plan)
    assert ", 1 of " in row.device


def test_a_model_that_changed_since_the_plan_is_refused(tmp_path, log):
    plan = plan_of()
    old = dataclasses.replace(
        plan, setting=dataclasses.replace(plan.setting, model_digest="0" * 16)
    )
    job = submit(old, Store(tmp_path), InProcess())
    assert job.wait(30)
    assert job.view.state == "failed"
    assert "model digest has changed" in job.view.message
