"""The store of one process: rows come back as they went in, and every trouble has a remedy."""

import dataclasses
import json
import os
import resource
import sqlite3

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
