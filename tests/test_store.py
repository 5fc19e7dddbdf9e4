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
    store.save_run(small)
    store.save_run(large)
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
    with pytest.raises(SparsityError, match="choose another store"):
        Store(tmp_path / "file" / "store")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_store(tmp_path):
    Store(tmp_path).path.chmod(0o444)
    tmp_path.chmod(0o555)
    with pytest.raises(SparsityError, match="no right to write"):
        Store(tmp_path)


def test_a_read_only_file_opened_by_anybody(tmp_path, monkeypatch):
    # What sqlite answers to a user without rights, shown to root too.
    store = Store(tmp_path)
    real = sqlite3.connect

    def read_only(path, **options):
        return real(f"file:{path}?mode=ro", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(SparsityError, match="no right to write: change the file's rights"):
        Store(tmp_path)
    _, rows = measured(layers=["fc1"], sparsities=[0.5])
    with pytest.raises(SparsityError, match="no right to write"):
        store.add("sweep", rows)


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
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    kept = store.rows(plan)
    assert kept == rows[: len(kept)]
    assert len(kept) >= 10
    store.add("sweep", rows)
    assert store.rows(plan) == rows
