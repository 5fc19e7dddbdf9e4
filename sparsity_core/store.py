"""Results on disk: one SQLite file, one row a point, kept whatever is killed and whenever."""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from platformdirs import user_data_path

from sparsity_core.errors import SparsityError, unknown
from sparsity_core.plans import Plan, Row, plan_from_dict, row_from_dict

_VERSION = 1
_FILE = "results.sqlite"
_TABLES = """
CREATE TABLE results (
    point_id TEXT PRIMARY KEY, kind TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL,
    seconds REAL NOT NULL, device TEXT NOT NULL, versions TEXT NOT NULL, created REAL NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE runs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, title TEXT NOT NULL, model TEXT NOT NULL,
    plan TEXT NOT NULL, created REAL NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL,
    owner TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE run_points (
    run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, position INTEGER NOT NULL,
    point_id TEXT NOT NULL, PRIMARY KEY (run_id, position)
) WITHOUT ROWID;
CREATE INDEX run_points_by_point ON run_points(point_id);
"""

# queued, running: a living process owns the run. interrupted: its process has died, or it was left.
STATES = ("queued", "running", "done", "cancelled", "failed", "interrupted")


@dataclass(frozen=True)
class RunInfo:
    """A stored run: what was planned, and how much of it there is."""

    id: str
    kind: str
    title: str
    model: str
    created: float  # seconds since 1970
    state: str
    message: str
    total: int
    statuses: dict[str, int]  # stored points by status

    @property
    def done(self) -> int:
        """Points with a stored row."""
        return sum(self.statuses.values())


def default_folder() -> Path:
    """SPARSITY_STORE, or the user's data folder."""
    given = os.environ.get("SPARSITY_STORE")
    return Path(given).expanduser() if given else user_data_path("sparsity-explorer")


class Store:
    """The results in a folder; each thread gets its own connection, several processes may share.

    Raises SparsityError, and deletes nothing, for a file that is corrupt, read-only or of a newer
    version, and when the disk is full.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder).expanduser() if folder is not None else default_folder()
        self.path = self.folder / _FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SparsityError(
                f"{self.folder}: cannot be made ({error.strerror}); choose another store"
            ) from error
        with self._connection() as db:
            self._prepare(db)

    def _prepare(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise SparsityError(
                f"{self.path}: written by a newer Sparsity Explorer (store version {version}, "
                f"this one knows {_VERSION}); update, or choose another store"
            )
        db.execute("PRAGMA journal_mode=WAL")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={_VERSION}; COMMIT;")
        else:
            # A write that changes nothing: a read-only file fails now, not in mid-sweep.
            db.execute(f"PRAGMA user_version={_VERSION}")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        except sqlite3.Error as error:
            raise self._explained(error) from error
        try:
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA foreign_keys=ON")
            yield db
        except sqlite3.Error as error:
            raise self._explained(error) from error
        finally:
            db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")  # without it, closing the connection rolls back

    def _explained(self, error: sqlite3.Error) -> SparsityError:
        text = str(error)
        remedies = {
            "not a database": "this is no store: move the file away, or choose another store",
            "malformed": "the store is damaged: move the file away, or choose another store",
            "readonly": "no right to write: change the file's rights, or choose another store",
            "unable to open": "no right to write there: choose another store",
            "full": "the disk is full: free space, then resume; stored points are safe",
            "disk I/O": "the disk is full or broken: free space and resume; stored points are safe",
            "locked": "another program holds the store: close it, then resume",
        }
        for sign, remedy in remedies.items():
            if sign in text:
                return SparsityError(f"{self.path}: {remedy} ({text})")
        return SparsityError(f"{self.path}: {text}; move the file away, or choose another store")

    def add(self, kind: str, rows: Iterable[Row]) -> None:
        """Keep rows; when this returns they survive any crash. A stored point is not replaced,
        save one that had failed."""
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(point_id) "
                "DO UPDATE SET status=excluded.status, message=excluded.message, "
                "seconds=excluded.seconds, device=excluded.device, versions=excluded.versions, "
                "created=excluded.created, record=excluded.record WHERE results.status='failed'",
                [
                    (
                        *(row.point_id, kind, row.status, row.message),
                        *(row.seconds, row.device, row.versions, time.time()),
                        # NaN is no number and no JSON: a row with one must not be stored.
                        json.dumps(asdict(row), allow_nan=False),  # type: ignore[call-overload]
                    )
                    for row in rows
                ],
            )

    def statuses(self, point_ids: Sequence[str]) -> dict[str, str]:
        """The status of each of the given points that is stored."""
        with self._connection() as db:
            found = db.execute(
                "SELECT point_id, status FROM results "
                "WHERE point_id IN (SELECT value FROM json_each(?))",
                [json.dumps(list(point_ids))],
            )
            return dict(found.fetchall())

    def rows(self, plan: Plan) -> list[Any]:
        """The stored rows of a plan, in the plan's order, whichever run measured them."""
        ids = [point.id for point in plan.points()]
        with self._connection() as db:
            found = dict(
                db.execute(
                    "SELECT point_id, record FROM results "
                    "WHERE point_id IN (SELECT value FROM json_each(?))",
                    [json.dumps(ids)],
                ).fetchall()
            )
        return [row_from_dict(plan.kind, json.loads(found[i])) for i in ids if i in found]

    def save_run(self, plan: Plan, state: str = "queued") -> str:
        """List a plan as a run owned by this process; the run's id is the plan's digest."""
        points = [(plan.digest, n, point.id) for n, point in enumerate(plan.points())]
        with self._transaction() as db:
            db.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, '', ?) ON CONFLICT(id) "
                "DO UPDATE SET state=excluded.state, message='', owner=excluded.owner",
                [
                    *(plan.digest, plan.kind, plan.title, plan.model),
                    *(json.dumps(plan.to_dict()), time.time(), state, _this_process()),
                ],
            )
            db.executemany("INSERT OR IGNORE INTO run_points VALUES (?, ?, ?)", points)
        return plan.digest

    def set_state(self, run_id: str, state: str, message: str = "") -> None:
        """Note where a run stands: one of STATES."""
        if state not in STATES:
            raise unknown("state of a run", state, STATES)
        with self._transaction() as db:
            db.execute("UPDATE runs SET state=?, message=? WHERE id=?", [state, message, run_id])

    def runs(self) -> list[RunInfo]:
        """All runs, the newest first; a run whose process has died is `interrupted`."""
        with self._connection() as db:
            runs = db.execute(
                "SELECT id, kind, title, model, created, state, message, owner FROM runs "
                "ORDER BY created DESC, id"
            ).fetchall()
            totals = dict(db.execute("SELECT run_id, COUNT(*) FROM run_points GROUP BY run_id"))
            counts: dict[str, dict[str, int]] = {}
            for run_id, status, count in db.execute(
                "SELECT run_id, status, COUNT(*) FROM run_points JOIN results USING (point_id) "
                "GROUP BY run_id, status"
            ):
                counts.setdefault(run_id, {})[status] = count
        return [
            RunInfo(
                id=run_id,
                kind=kind,
                title=title,
                model=model,
                created=created,
                state=_state_now(state, owner),
                message=message,
                total=totals.get(run_id, 0),
                statuses=counts.get(run_id, {}),
            )
            for run_id, kind, title, model, created, state, message, owner in runs
        ]

    def run(self, run_id: str) -> RunInfo:
        """One run by its id or the beginning of it."""
        matching = [info for info in self.runs() if info.id.startswith(run_id)]
        if len(matching) != 1 or not run_id:
            known = [info.id for info in self.runs()]
            if len(matching) > 1:
                raise SparsityError(f"run {run_id!r} is not unique; write more of its id")
            raise unknown("run", run_id, known)
        return matching[0]

    def plan(self, run_id: str) -> Any:
        """The plan of a run."""
        with self._connection() as db:
            found = db.execute("SELECT plan FROM runs WHERE id=?", [run_id]).fetchone()
        if found is None:
            raise SparsityError(f"run {run_id!r} is not in {self.path}")
        return plan_from_dict(json.loads(found[0]))

    def delete_run(self, run_id: str) -> int:
        """Remove a run and the points that no other run has; returns how many points went."""
        with self._transaction() as db:
            gone = db.execute(
                "DELETE FROM results WHERE point_id IN "
                "(SELECT point_id FROM run_points WHERE run_id=?) AND point_id NOT IN "
                "(SELECT point_id FROM run_points WHERE run_id<>?)",
                [run_id, run_id],
            ).rowcount
            db.execute("DELETE FROM runs WHERE id=?", [run_id])
        return gone


def _this_process() -> str:
    """This process, told apart from a later one with the same number by its start."""
    process = psutil.Process()
    return json.dumps([process.pid, process.create_time()])


def _state_now(state: str, owner: str) -> str:
    if state not in ("queued", "running"):
        return state
    pid, started = json.loads(owner)
    try:
        alive = abs(psutil.Process(pid).create_time() - started) < 1
    except psutil.NoSuchProcess:
        alive = False
    return state if alive else "interrupted"
