"""Rows as a file: one row a point, the fields of the row as columns."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity_core.errors import SparsityError
from sparsity_core.spreadsheet import without_formulas

_WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    ".csv": lambda table, path: without_formulas(table).to_csv(path, index=False),
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
    try:
        fits = not path.is_dir() and path.parent.is_dir() and os.access(path.parent, os.W_OK)
    except OSError as error:  # a name too long, a folder that may not even be looked into
        raise SparsityError(f"--out {path}: {error.strerror}; choose another file") from error
    if not fits or (path.exists() and not os.access(path, os.W_OK)):
        raise SparsityError(f"--out {path}: cannot be written there; choose another file")


def write_rows(rows: Sequence[Any], path: Path, only: Sequence[str] | None = None) -> None:
    """Write rows as CSV, Parquet or JSON, by the file's suffix; what was not measured is empty.

    `only`: these columns, in this order; otherwise all fields.
    """
    check_target(path)
    table = pd.DataFrame([asdict(row) for row in rows])
    columns = fields(rows[0]) if rows else ()
    whole = [column.name for column in columns if column.type in (int, int | None)]
    # Without it a column of counts with a gap would read 360.0.
    table = table.astype(dict.fromkeys(whole, "Int64"))
    if only is not None:
        table = table[list(only)]
    try:
        _WRITERS[path.suffix](table, path)
    except OSError as error:
        reason = error.strerror or error  # pyarrow gives a text alone
        raise SparsityError(f"--out {path}: {reason}; the results are stored") from error
