"""Worker processes: they die, hang, are cancelled; their points are measured once and stored."""

import dataclasses
import multiprocessing as mp
import os
import re
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

from sparsity_core.executors import InProcess, WorkerProcesses
from sparsity_core.job_queue import JobQueue
from sparsity_core.jobs import submit
from sparsity_core.scorers import SCORERS
from sparsity_core.store import Store
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.worker import serve
from tests.logged_plan import comparable, log, plan_of, undisturbed, wait_until

__all__ = ["log"]


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
    again = submit(plan, store, InProcess(), retry_failed=True)
    assert again.wait(180)
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
    queue.close()
    queue = JobQueue(store, InProcess())
    resumed = queue.resume(plan.digest)
    assert resumed.wait(180)
    assert resumed.view.state == "done"
    queue.close()


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


def test_what_a_model_started_cannot_hold_up_its_dead_worker(tmp_path, log, monkeypatch):
    child = "subprocess.Popen(['sleep', '600'], close_fds=False)"
    plan = made_elsewhere(
        tmp_path, monkeypatch, f"def make():\n    {child}\n    return tests.count_executions.task()"
    )
    monkeypatch.setenv("DEADLY_ZEROS", "46")
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


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """One process for whoever does no harm to it: to start one takes 2.5 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXECUTIONS", str(tmp_path_factory.mktemp("worker") / "log"))
        patch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
        patch.setenv("OMP_NUM_THREADS", "1")
        workers = WorkerProcesses()
        workers.prepare(plan_of())
        yield workers
        workers.close()


def test_a_prepared_worker_measures_whatever_comes_next(tmp_path, worker):
    plan, store = plan_of([0.5]), Store(tmp_path)
    setting = dataclasses.replace(plan.setting, model="tests.nowhere:task")
    worker.prepare(dataclasses.replace(plan, setting=setting))
    worker.prepare(plan)
    assert submit(plan, store, worker).wait(180)
    assert [row.status for row in store.rows(plan)] == ["ok"]


def test_a_model_that_cannot_be_loaded_fails_the_job_with_its_reason(tmp_path, worker):
    plan = plan_of()
    broken = dataclasses.replace(
        plan, setting=dataclasses.replace(plan.setting, model="tests.nowhere:task")
    )
    job = submit(broken, Store(tmp_path), worker)
    assert job.wait(180)
    assert job.view.state == "failed"
    assert "tests.nowhere" in job.view.message


@dataclasses.dataclass(frozen=True)
class OnlyHere:
    memory = 1.0

    def score(self, probe):
        """The scorer of a notebook: no other process has it."""
        return dict(probe.weights)


def test_a_scorer_that_workers_do_not_have_is_refused_in_one_line(tmp_path, worker, monkeypatch):
    monkeypatch.setattr(SCORERS, "_classes", dict(SCORERS._classes))
    SCORERS.register("only-here")(OnlyHere)
    job = submit(plan_of(scorers=["only-here"]), Store(tmp_path), worker)
    assert job.wait(180)
    assert job.view.state == "failed"
    assert "unknown scorer 'only-here'" in job.view.message


def test_workers_share_the_threads_that_torch_may_use(tmp_path, worker):
    plan, store = plan_of([0.5]), Store(tmp_path)
    assert submit(plan, store, worker).wait(180)
    (row,) = store.rows(plan)
    assert ", 1 of " in row.device
