"""Rows as a file: one row a point, the fields of the row as columns."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity_core.errors import SparsityError

_WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
    ".json": lambda table, path: table.to_json(path, orient="records", indent=1),
}


def check_target(path: Path | None) -> None:
    """Raise SparsityError now, before any computing, for a file that could not be written."""
    if path is None:
        return
    if path.suffix not in _WRITERS:
        raise SparsityError(
            f"--out {path}: unknown kind of file {path.suffix!r}; use {', '.join(_WRITERS)}"
        )
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise SparsityError(f"--out {path}: cannot be written there; choose another folder")


def write_rows(rows: Sequence[Any], path: Path) -> None:
    """Write rows as CSV, Parquet or JSON, by the file's suffix; what was not measured is empty."""
    check_target(path)
    table = pd.DataFrame([asdict(row) for row in rows])
    columns = fields(rows[0]) if rows else ()
    whole = [column.name for column in columns if column.type in (int, int | None)]
    # Without it a column of counts with a gap would read 360.0.
    table = table.astype(dict.fromkeys(whole, "Int64"))
    try:
        _WRITERS[path.suffix](table, path)
    except OSError as error:
        raise SparsityError(f"--out {path}: {error.strerror}; the results are stored") from error
