"""One store, several processes: some die, some write at once; nothing acknowledged is lost."""

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest

from sparsity_core.errors import SparsityError
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from tests.count_executions import task

# Children are forked from one that has only imported: 2.5 s less each.
forked = multiprocessing.get_context("forkserver")
forked.set_forkserver_preload(["tests.test_store_processes"])


@pytest.fixture(autouse=True)
def _log(tmp_path, monkeypatch):
    monkeypatch.setenv("EXECUTIONS", str(tmp_path / "log"))


def measured():
    made = task()
    plan = plan_sweep(made, sparsities=[0.25, 0.5])
    return plan, list(plan.run(made, plan.points()))


def started(function, *arguments):
    process = forked.Process(target=function, args=arguments)
    process.start()
    return process


def ended(process):
    """How a process ended; waits for it."""
    process.join(60)
    return process.exitcode


def save_and_die(folder):
    Store(folder).save_run(plan_sweep(task()), "running")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_of_a_dead_process_is_interrupted(tmp_path):
    assert ended(started(save_and_die, tmp_path)) == -signal.SIGKILL
    (info,) = Store(tmp_path).runs()
    assert info.state == "interrupted"
    plan, _ = measured()
    Store(tmp_path).save_run(plan, "running")
    assert Store(tmp_path).run(plan.digest).state == "running"


def test_a_dead_process_that_nobody_reaped_owns_nothing(tmp_path):
    program = """
import sys
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from tests.count_executions import task
Store(sys.argv[1]).save_run(plan_sweep(task()), "running")
"""
    ended = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    deadline = time.monotonic() + 60
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (info,) = Store(tmp_path).runs()
    assert info.state == "interrupted"
    assert ended.wait(60) == 0


@pytest.mark.skipif(not psutil.LINUX, reason="elsewhere the start of a process is a fixed time")
def test_a_clock_that_is_set_interrupts_no_run(tmp_path, monkeypatch):
    plan, _ = measured()
    store = Store(tmp_path)
    store.save_run(plan, "running")
    # So psutil sees a clock that was set forward by an hour: the boot, and all starts, move.
    real = psutil._pslinux.boot_time
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: real() + 3600)
    assert store.run(plan.digest).state == "running"


def test_owners_in_stores_of_earlier_versions(tmp_path):
    plan, _ = measured()
    store = Store(tmp_path)
    store.save_run(plan, "running")
    started = psutil.Process().create_time()
    for owner, state in ([os.getpid(), started], "running"), ([os.getpid(), 1.0], "interrupted"):
        with sqlite3.connect(store.path) as db:
            db.execute("UPDATE runs SET owner=?", [json.dumps(owner)])
        db.close()
        assert store.run(plan.digest).state == state


def save_and_stay(folder, parent):
    Store(folder).save_run(plan_sweep(task(), sparsities=[0.25, 0.5]), "running")
    parent.send("saved")
    parent.recv()


def test_a_run_of_another_living_process_is_neither_taken_nor_deleted(tmp_path):
    ours, theirs = forked.Pipe()
    other = started(save_and_stay, tmp_path, theirs)
    theirs.close()
    with ours:
        assert ours.recv() == "saved"
        plan, rows = measured()
        store = Store(tmp_path)
        store.add("sweep", rows)
        for act in (lambda: store.save_run(plan), lambda: store.delete_run(plan.digest)):
            with pytest.raises(SparsityError, match=f"under way in process {other.pid}"):
                act()
        assert store.rows(plan) == rows
        ours.send("end")
        assert ended(other) == 0
    store.save_run(plan, "done")
    assert store.delete_run(plan.digest) == len(rows)


def make_all(folder, together):
    together.wait(60)
    for i in range(40):
        Store(folder / str(i)).runs()


def test_several_processes_make_one_new_store(tmp_path):
    together = forked.Barrier(3)
    others = [started(make_all, tmp_path, together) for _ in range(3)]
    assert [ended(other) for other in others] == [0, 0, 0]


def add_skipped(folder, seed, share=slice(None)):
    plan = plan_sweep(task(), sparsities=[i / 100 for i in range(1, 60)], seeds=[seed])
    for point in plan.points()[share]:
        Store(folder).add("sweep", [plan.unmeasured(point, "skipped", "x")])


def test_several_threads_and_processes_write_one_store(tmp_path):
    others = [started(add_skipped, tmp_path, seed) for seed in (1, 2)]
    threads = [
        threading.Thread(target=add_skipped, args=(tmp_path, 0, slice(i, None, 2))) for i in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ended(other) for other in others] == [0, 0]
    with sqlite3.connect(Store(tmp_path).path) as db:
        assert db.execute("SELECT COUNT(*) FROM results").fetchone() == (3 * 2 * 59,)
    db.close()


def add_and_tell(folder, parent):
    plan = plan_sweep(task(), sparsities=[i / 1000 for i in range(1000)])
    store = Store(folder)
    for point in plan.points():
        store.add("sweep", [plan.unmeasured(point, "skipped", "x")])
        parent.send(point.id)


def test_acknowledged_rows_survive_kill_9(tmp_path):
    ours, theirs = forked.Pipe()
    writer = started(add_and_tell, tmp_path, theirs)
    theirs.close()
    with ours:
        acknowledged = [ours.recv() for _ in range(50)]
        writer.kill()
        with suppress(EOFError, OSError):  # the last may have been cut off
            while True:
                acknowledged.append(ours.recv())
    assert ended(writer) == -signal.SIGKILL
    assert Store(tmp_path).statuses(acknowledged).keys() == set(acknowledged)
