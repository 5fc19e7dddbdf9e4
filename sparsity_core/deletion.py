"""What goes with a run that is deleted: everything that no other run has."""

import json
import sqlite3
from contextlib import suppress
from pathlib import Path

from sparsity_core import checkpoint
from sparsity_core.errors import SparsityError
from sparsity_core.plans import plan_from_dict
from sparsity_core.schema import PARTS_OF

_ITS_ALONE = """
point_id IN (SELECT point_id FROM run_points WHERE run_id=:run)
AND point_id NOT IN (SELECT point_id FROM run_points WHERE run_id<>:run)"""
# Others can share nothing but the points of the same kind and model.
_PLANS = """
SELECT id, plan FROM runs
WHERE (kind, model) IN (SELECT kind, model FROM runs WHERE id=?)"""


def points_alone(db: sqlite3.Connection, run_id: str) -> int:
    """How many stored points a run has, and no other."""
    (found,) = db.execute(f"SELECT COUNT(*) FROM results WHERE {_ITS_ALONE}", {"run": run_id})
    return int(found[0])


def delete_run(db: sqlite3.Connection, run_id: str, folder: Path) -> int:
    """Delete a run of the store in a folder, within a transaction; how many points went with it.

    So do parts of its points, and the files that its trainings were saved in.
    """
    saved = _saved_alone(db, run_id)
    gone = db.execute(f"DELETE FROM results WHERE {_ITS_ALONE}", {"run": run_id}).rowcount
    db.execute("DELETE FROM runs WHERE id=?", [run_id])
    db.executemany(f"DELETE FROM results WHERE {PARTS_OF}", [{"id": name} for name in saved])
    checkpoint.free(saved, folder)
    return gone


def _saved_alone(db: sqlite3.Connection, run_id: str) -> set[str]:
    """The names under which a run saves work, and no other run does."""
    own: set[str] = set()
    others: set[str] = set()
    for other, text in db.execute(_PLANS, [run_id]):
        # A run that cannot be read can be deleted all the same.
        with suppress(SparsityError, ValueError, KeyError, TypeError):
            names = plan_from_dict(json.loads(text)).saved_under()
            (own if other == run_id else others).update(names)
    return own - others
