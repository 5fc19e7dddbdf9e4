"""One SQLite file for several processes: it survives crashes, and every trouble has a remedy."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparsity_core.errors import SparsityError

_WAIT = 30  # seconds for another process to finish writing
_REMEDIES = {
    "not a database": "this is no store: move the file away, or choose another store",
    "malformed": "the store is damaged: move the file away, or choose another store",
    "decode to UTF-8": "the store is damaged: move the file away, or choose another store",
    "readonly": "no right to write: change the file's rights, or choose another store",
    "unable to open": "it has gone, or there is no right to write there: choose another store",
    "is full": "the disk is full: free space, then resume; stored points are safe",
    "disk I/O": "the disk is full or broken: free space and resume; stored points are safe",
    "locked": "another program holds the store: close it, then resume",
}


class Database:
    """A file with the given tables, made when there is none; each use has its own connection.

    `tables` maps a table's name to the statements that make it. Raises SparsityError, and deletes
    and changes nothing, for a file that is corrupt, of another program or of a newer version.
    """

    def __init__(self, path: Path, tables: dict[str, str], version: int) -> None:
        self.path = path
        self._tables, self._version = tables, version
        with self._opened("rwc") as db:
            if self._is_new(db):
                db.execute("BEGIN IMMEDIATE")
                if self._is_new(db):  # another process may have been quicker
                    for statements in tables.values():
                        for statement in statements.split(";"):
                            db.execute(statement)
                    db.execute(f"PRAGMA user_version={version}")
                db.execute("COMMIT")
            _log_ahead(db)

    def _is_new(self, db: sqlite3.Connection) -> bool:
        """Is the file empty? Raises SparsityError for one that this version must not touch."""
        found = db.execute(  # both in one statement: another process may be making them now
            "SELECT (SELECT user_version FROM pragma_user_version), "
            "(SELECT json_group_array(name) FROM sqlite_schema WHERE type='table')"
        )
        ((version, names),) = found.fetchall()
        if version == 0 and names == "[]":
            return True
        if version == 0 or any(f'"{name}"' not in names for name in self._tables):
            raise SparsityError(
                f"{self.path}: another program's database, left as it is: choose another store"
            )
        if version > self._version:
            raise SparsityError(
                f"{self.path}: written by a newer Sparsity Explorer (store version {version}, "
                f"this one knows {self._version}); update, or choose another store"
            )
        return False

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection where each statement stands for itself; a file that has gone stays gone."""
        with self._opened("rw") as db:
            yield db

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are kept together at the end, or not at all."""
        with self._opened("rw") as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")  # without it, closing the connection rolls back

    @contextmanager
    def _opened(self, mode: str) -> Iterator[sqlite3.Connection]:
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            db = sqlite3.connect(address, uri=True, timeout=_WAIT, isolation_level=None)
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

    def _explained(self, error: sqlite3.Error) -> SparsityError:
        text = str(error)
        for sign, remedy in _REMEDIES.items():
            if sign in text:
                return SparsityError(f"{self.path}: {remedy} ({text})")
        return SparsityError(f"{self.path}: {text}; move the file away, or choose another store")


def _log_ahead(db: sqlite3.Connection) -> None:
    """Readers and a writer at once; writes nothing where it is so already.

    Of two processes that change a new file, SQLite turns one away without waiting.
    """
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
