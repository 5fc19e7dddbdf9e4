"""The store: nothing acknowledged is ever lost, and every trouble has a remedy."""

import dataclasses
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import psutil
import pytest

from sparsity_core.errors import SparsityError
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from tests.count_executions import task


@pytest.fixture(autouse=True)
def _log(tmp_path, monkeypatch):
    monkeypatch.setenv("EXECUTIONS", str(tmp_path / "log"))


def measured(**options):
    made = task()
    plan = plan_sweep(made, **({"sparsities": [0.25, 0.5]} | options))
    return plan, list(plan.run(made, plan.points()))


def test_rows_come_back_as_they_went_in_the_plans_order(tmp_path):
    plan, rows = measured(structures=["unstructured", "2:4"], sparsities=[0.5, 0.75])
    assert {row.status for row in rows} == {"ok", "skipped"}
    Store(tmp_path).add("sweep", rows[::-1])
    assert Store(tmp_path).rows(plan) == rows
    assert Store(tmp_path).statuses([rows[0].point_id, "none"]) == {rows[0].point_id: "ok"}


def test_a_stored_point_is_not_replaced_but_a_failed_one_is(tmp_path):
    plan, rows = measured(layers=["fc1"], sparsities=[0.5])
    store = Store(tmp_path)
    store.add("sweep", [plan.unmeasured(plan.points()[0], "failed", "out of memory")])
    store.add("sweep", rows)
    assert store.rows(plan) == rows
    store.add("sweep", [dataclasses.replace(rows[0], value=0.123)])
    assert store.rows(plan) == rows


def test_nan_is_never_stored_as_a_number(tmp_path):
    plan, rows = measured(layers=["fc1"], sparsities=[0.5])
    with pytest.raises(ValueError, match="not JSON compliant"):
        Store(tmp_path).add("sweep", [dataclasses.replace(rows[0], value=float("nan"))])
    assert Store(tmp_path).rows(plan) == []


def test_points_are_shared_between_runs_and_deleted_with_the_last(tmp_path):
    store = Store(tmp_path)
    small, rows = measured(layers=["fc1"])
    large, more = measured(layers=["fc1", "fc2"])
    store.save_run(small, "done")
    store.save_run(large, "done")
    store.add("sweep", more)
    by_id = {info.id: info for info in store.runs()}
    assert (by_id[small.digest].done, by_id[small.digest].total) == (2, 2)
    assert (by_id[large.digest].done, by_id[large.digest].total) == (4, 4)
    assert store.delete_run(large.digest) == 2
    assert [row.point_id for row in store.rows(small)] == [row.point_id for row in rows]
    assert store.delete_run(small.digest) == 2
    assert store.runs() == []


def test_runs_are_found_by_the_beginning_of_their_id(tmp_path):
    store = Store(tmp_path)
    plan, _ = measured()
    store.save_run(plan)
    assert store.run(plan.digest[:6]).id == plan.digest
    assert store.plan(plan.digest) == plan
    with pytest.raises(SparsityError, match="unknown run 'zzz'"):
        store.run("zzz")


def test_a_run_of_a_dead_process_is_interrupted(tmp_path):
    program = """
import os, sys
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from tests.count_executions import task
Store(sys.argv[1]).save_run(plan_sweep(task()), "running")
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
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


def test_a_run_of_another_living_process_is_neither_taken_nor_deleted(tmp_path):
    program = """
import sys
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from tests.count_executions import task
Store(sys.argv[1]).save_run(plan_sweep(task(), sparsities=[0.25, 0.5]), "running")
print("saved", flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdin
    assert other.stdout
    with other.stdin, other.stdout:
        assert other.stdout.readline() == b"saved\n"
        plan, rows = measured()
        store = Store(tmp_path)
        store.add("sweep", rows)
        for act in (lambda: store.save_run(plan), lambda: store.delete_run(plan.digest)):
            with pytest.raises(SparsityError, match=f"under way in process {other.pid}"):
                act()
        assert store.rows(plan) == rows
    other.wait(60)
    store.save_run(plan, "done")
    assert store.delete_run(plan.digest) == len(rows)


def test_several_processes_make_one_new_store(tmp_path):
    program = """
import sys
from sparsity_core.store import Store
print("ready", flush=True)
sys.stdin.read()
for i in range(40):
    Store(f"{sys.argv[1]}/{i}").runs()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    others = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for other in others:
        assert other.stdout.readline() == "ready\n"
    for other in others:  # all have imported what they need, and begin together
        other.stdin.close()
    for other in others:
        with other.stdout:
            assert other.wait(60) == 0


def test_several_threads_and_processes_write_one_store(tmp_path):
    program = """
import sys
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from tests.count_executions import task
plan = plan_sweep(task(), sparsities=[i / 100 for i in range(1, 60)], seeds=[int(sys.argv[2])])
for point in plan.points():
    Store(sys.argv[1]).add("sweep", [plan.unmeasured(point, "skipped", "x")])
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    others = [subprocess.Popen([*command, str(seed)]) for seed in (1, 2)]
    plan = plan_sweep(task(), sparsities=[i / 100 for i in range(1, 60)])
    store = Store(tmp_path)

    def write(points):
        for point in points:
            store.add("sweep", [plan.unmeasured(point, "skipped", "x")])

    points = plan.points()
    threads = [threading.Thread(target=write, args=(points[i::2],)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait(60) for other in others] == [0, 0]
    with sqlite3.connect(store.path) as db:
        assert db.execute("SELECT COUNT(*) FROM results").fetchone() == (3 * len(points),)
    db.close()


def test_acknowledged_rows_survive_kill_9(tmp_path):
    program = """
import sys
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from tests.count_executions import task
plan = plan_sweep(task(), sparsities=[i / 1000 for i in range(1000)])
store = Store(sys.argv[1])
for point in plan.points():
    store.add("sweep", [plan.unmeasured(point, "skipped", "x")])
    print(point.id, flush=True)
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout
    acknowledged = [writer.stdout.readline().strip() for _ in range(50)]
    writer.kill()
    acknowledged += writer.stdout.read().split()
    writer.wait()
    writer.stdout.close()
    whole = [i for i in acknowledged if len(i) == 16]
    assert len(whole) >= 50
    assert Store(tmp_path).statuses(whole).keys() == set(whole)


@pytest.mark.parametrize(
    "content", [b"no database at all, just text" * 100, b"SQLite format 3\0" * 50]
)
def test_a_file_that_is_no_store(tmp_path, content):
    (tmp_path / "results.sqlite").write_bytes(content)
    with pytest.raises(SparsityError, match=r"results\.sqlite: .* choose another store"):
        Store(tmp_path)
    assert (tmp_path / "results.sqlite").read_bytes() == content


@pytest.mark.parametrize("version", [0, 1, 7])
def test_another_programs_database_is_left_as_it_is(tmp_path, version):
    path = tmp_path / "results.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE results (name)")
        db.execute(f"PRAGMA user_version={version}")
    db.close()
    content = path.read_bytes()
    with pytest.raises(SparsityError, match="another program's database.*choose another store"):
        Store(tmp_path)
    assert path.read_bytes() == content


def test_a_store_that_has_gone_is_not_made_anew_in_secret(tmp_path):
    _, rows = measured()
    store = Store(tmp_path)
    store.path.unlink()
    for use in (store.runs, lambda: store.add("sweep", rows)):
        with pytest.raises(SparsityError, match="it has gone"):
            use()
    assert not store.path.exists()


def test_a_record_that_cannot_be_read(tmp_path):
    plan, rows = measured(layers=["fc1"], sparsities=[0.5])
    store = Store(tmp_path)
    store.save_run(plan, "done")
    store.add("sweep", rows)
    for column in ("results SET record='{'", 'runs SET plan=\'{"kind": "sweep"}\''):
        with sqlite3.connect(store.path) as db:
            db.execute(f"UPDATE {column}")
        db.close()
    for read in (lambda: store.rows(plan), lambda: store.plan(plan.digest)):
        with pytest.raises(SparsityError, match="cannot be read .* choose another store"):
            read()


def test_a_damaged_store(tmp_path):
    plan, rows = measured(sparsities=[i / 100 for i in range(1, 90)])
    store = Store(tmp_path)
    store.add("sweep", rows)
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    content = bytearray(store.path.read_bytes())
    content[4096 * 2 :] = os.urandom(len(content) - 4096 * 2)
    store.path.write_bytes(content)
    with pytest.raises(SparsityError, match="damaged: move the file away"):
        store.rows(plan)


def test_a_store_of_a_newer_version(tmp_path):
    store = Store(tmp_path)
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(SparsityError, match="store version 99, this one knows 1.*update"):
        Store(tmp_path)


def test_a_row_of_a_newer_version(tmp_path):
    plan, rows = measured(layers=["fc1"], sparsities=[0.5])
    store = Store(tmp_path)
    store.add("sweep", rows)
    record = json.dumps(dataclasses.asdict(rows[0]) | {"fancy": 1})
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE results SET record=?", [record])
    db.close()
    with pytest.raises(SparsityError, match="unknown column 'fancy'"):
        store.rows(plan)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "store", tmp_path / "file", "~nobody-knows/store"):
        with pytest.raises(SparsityError, match="cannot be made .* choose another store"):
            Store(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_store(tmp_path):
    Store(tmp_path).path.chmod(0o444)
    tmp_path.chmod(0o555)
    with pytest.raises(SparsityError, match="no right to write"):
        Store(tmp_path)


def test_a_read_only_file_is_read_and_refuses_every_write(tmp_path, monkeypatch):
    # What sqlite answers to a user without rights, shown to root too.
    plan, rows = measured(layers=["fc1"], sparsities=[0.5])
    Store(tmp_path).add("sweep", rows)
    real = sqlite3.connect

    def read_only(address, **options):
        return real(address.partition("?")[0] + "?mode=ro", **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    store = Store(tmp_path)
    assert store.rows(plan) == rows
    for write in (lambda: store.save_run(plan), lambda: store.add("sweep", rows)):
        with pytest.raises(SparsityError, match="no right to write: change the file's rights"):
            write()


def _add_one_by_one(store, rows):
    for row in rows:
        store.add("sweep", [row])


def test_a_full_disk_loses_nothing(tmp_path):
    plan, rows = measured(sparsities=[i / 500 for i in range(1, 400)])
    store = Store(tmp_path)
    store.add("sweep", rows[:10])
    size = max(p.stat().st_size for p in tmp_path.iterdir())
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, old[1]))
    try:
        with pytest.raises(SparsityError, match="disk is full.*free space"):
            _add_one_by_one(store, rows[10:])
        # A full disk can still be read, by a process that starts now too.
        kept = Store(tmp_path).rows(plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert kept == rows[: len(kept)]
    assert len(kept) >= 10
    store.add("sweep", rows)
    assert store.rows(plan) == rows
