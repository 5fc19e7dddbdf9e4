"""Results on disk: one SQLite file, one row a point, kept whatever is killed and whenever."""

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sparsity_core.database import Database
from sparsity_core.deletion import delete_run, points_alone
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.folder import default_folder
from sparsity_core.owner import lives, number_of, this_process
from sparsity_core.plans import Plan, Row, plan_from_dict, row_from_dict
from sparsity_core.schema import FILE, PARTS_OF, TABLES, VERSION
from sparsity_core.sweep.share import Part, part_from_dict

# queued, running: a living process owns the run. interrupted: its process has died, or it was left.
ACTIVE = ("queued", "running")
STATES = (*ACTIVE, "done", "cancelled", "failed", "interrupted")


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


class Store:
    """The results in a folder; threads and processes may share one.

    Raises SparsityError, and deletes nothing, for a file that is corrupt, of another program or of
    a newer version, for writing to one that is read-only, and when the disk is full.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder if folder is not None else default_folder())
        try:
            self.folder = self.folder.expanduser()
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: ~somebody that nobody knows
            reason = getattr(error, "strerror", None) or error
            raise SparsityError(
                f"{self.folder}: cannot be made ({reason}); choose another store"
            ) from error
        self.path = self.folder / FILE
        self._database = Database(self.path, TABLES, VERSION)
        # What could not be written, for the disk was full: only this object knows.
        self._unwritten: dict[str, tuple[str, str]] = {}

    def add(self, kind: str, rows: Iterable[Row]) -> None:
        """Keep rows; when this returns they survive any crash. A stored point is not replaced,
        save one that had failed. A point that was measured needs its parts no longer."""
        rows = list(rows)
        with self._database.transaction() as db:
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
            measured = [{"id": row.point_id} for row in rows if row.status != "failed"]
            db.executemany(f"DELETE FROM results WHERE {PARTS_OF}", measured)

    def parts(self, point_ids: Sequence[str]) -> dict[str, list[Part]]:
        """What is stored of points that were measured on some of their samples only, by point."""
        with self._database.connection() as db:
            found = db.execute(
                "SELECT value, record FROM json_each(?) "
                f"JOIN results ON {PARTS_OF.replace(':id', 'value')}",
                [json.dumps(list(point_ids))],
            ).fetchall()
        parts: dict[str, list[Part]] = {}
        for point_id, record in found:
            parts.setdefault(point_id, []).append(self._read(part_from_dict, record))
        return parts

    def statuses(self, point_ids: Sequence[str]) -> dict[str, str]:
        """The status of each of the given points that is stored."""
        with self._database.connection() as db:
            found = db.execute(
                "SELECT point_id, status FROM results "
                "WHERE point_id IN (SELECT value FROM json_each(?))",
                [json.dumps(list(point_ids))],
            )
            return dict(found.fetchall())

    def rows(self, plan: Plan) -> list[Any]:
        """The stored rows of a plan, in the plan's order, whichever run measured them."""
        ids = [point.id for point in plan.points()]
        with self._database.connection() as db:
            found = dict(
                db.execute(
                    "SELECT point_id, record FROM results "
                    "WHERE point_id IN (SELECT value FROM json_each(?))",
                    [json.dumps(ids)],
                ).fetchall()
            )
        read = partial(row_from_dict, plan.kind)
        return [self._read(read, found[i]) for i in ids if i in found]

    def save_run(self, plan: Plan, state: str = "queued") -> str:
        """List a plan as a run owned by this process; the run's id is the plan's digest.

        Raises SparsityError while another living process works on that run.
        """
        points = [(plan.digest, n, point.id) for n, point in enumerate(plan.points())]
        with self._database.transaction() as db:
            pid = self._worked_on(db, plan.digest)
            if pid not in (None, os.getpid()):
                raise SparsityError(
                    f"run {plan.digest[:8]} is under way in process {pid}; wait until it is done, "
                    "or stop it there and resume"
                )
            db.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, '', ?) ON CONFLICT(id) "
                "DO UPDATE SET state=excluded.state, message='', owner=excluded.owner",
                [
                    *(plan.digest, plan.kind, plan.title, plan.model),
                    *(json.dumps(plan.to_dict()), time.time(), state, this_process()),
                ],
            )
            db.executemany("INSERT OR IGNORE INTO run_points VALUES (?, ?, ?)", points)
        self._unwritten.pop(plan.digest, None)
        return plan.digest

    def set_state(self, run_id: str, state: str, message: str = "") -> None:
        """Note where a run stands: one of STATES."""
        if state not in STATES:
            raise unknown("state of a run", state, STATES)
        self._unwritten[run_id] = state, message
        with self._database.transaction() as db:
            db.execute("UPDATE runs SET state=?, message=? WHERE id=?", [state, message, run_id])
        self._unwritten.pop(run_id, None)

    def runs(self) -> list[RunInfo]:
        """All runs, the newest first; a run whose process has died is `interrupted`."""
        with self._database.connection() as db:
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
        infos = []
        for run_id, kind, title, model, created, state, message, owner in runs:
            state, message = self._now(run_id, state, message, owner)
            infos.append(
                RunInfo(
                    id=run_id,
                    kind=kind,
                    title=title,
                    model=model,
                    created=created,
                    state=state,
                    message=message,
                    total=totals.get(run_id, 0),
                    statuses=counts.get(run_id, {}),
                )
            )
        return infos

    def run(self, run_id: str) -> RunInfo:
        """One run by its id or the beginning of it."""
        infos = self.runs()
        matching = [info for info in infos if info.id.startswith(run_id)]
        if not matching or not run_id:
            raise unknown("run", run_id, [info.id for info in infos])
        if len(matching) > 1:
            raise SparsityError(f"run {run_id!r} is not unique; write more of its id")
        return matching[0]

    def plan(self, run_id: str) -> Any:
        """The plan of a run."""
        with self._database.connection() as db:
            found = db.execute("SELECT plan FROM runs WHERE id=?", [run_id]).fetchone()
        if found is None:
            raise SparsityError(f"run {run_id!r} is not in {self.path}")
        return self._read(plan_from_dict, found[0])

    def points_alone(self, run_id: str) -> int:
        """How many stored points a run has, and no other: those that would go with it."""
        with self._database.connection() as db:
            return points_alone(db, run_id)

    def delete_run(self, run_id: str) -> int:
        """Remove a run and the points that no other run has; returns how many points went.

        So goes the work that was saved on the way to its points, in `checkpoints` in this folder
        too. Raises SparsityError while a living process works on the run.
        """
        with self._database.transaction() as db:
            if pid := self._worked_on(db, run_id):
                raise SparsityError(
                    f"run {run_id[:8]} is under way in process {pid}; cancel it there first"
                )
            return delete_run(db, run_id, self.folder)

    def _now(self, run_id: str, state: str, message: str, owner: str) -> tuple[str, str]:
        """State and message of a run, as far as the file alone does not know them."""
        if state not in ACTIVE:
            return state, message
        if not lives(owner):
            return "interrupted", message
        mine = owner == this_process()
        return self._unwritten.get(run_id, (state, message)) if mine else (state, message)

    def _worked_on(self, db: sqlite3.Connection, run_id: str) -> int | None:
        """The number of the living process that works on a run, if there is one."""
        stored = "SELECT state, message, owner FROM runs WHERE id=?"
        for state, message, owner in db.execute(stored, [run_id]):
            if self._now(run_id, state, message, owner)[0] in ACTIVE:
                return number_of(owner)
        return None

    def _read(self, make: Callable[[Any], Any], text: str) -> Any:
        """What a stored text stands for; SQLite does not notice every damage."""
        try:
            return make(json.loads(text))
        except SparsityError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise SparsityError(
                f"{self.path}: a stored record cannot be read ({error!r}); it is damaged, or of "
                "another version: update, delete its run, or choose another store"
            ) from error
