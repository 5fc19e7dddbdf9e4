"""Tables, such as CSV and Parquet: columns of numbers are inputs, one is the target."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparsity_core.errors import SparsityError
from sparsity_core.intake.arrays import shaped
from sparsity_core.intake.how import How

_LABELS = ("label", "target", "class", "y")
_LARGEST = 2 << 30  # bytes


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or Parquet file."""
    if path.stat().st_size > _LARGEST:
        raise SparsityError(f"{path}: more than {_LARGEST} bytes; use a part of it")
    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path)
        import pyarrow.parquet as parquet

        file = parquet.ParquetFile(path)
        declared = sum(
            file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)
        )
        if declared > _LARGEST:  # before reading: columns are compressed
            raise SparsityError(f"{path}: inflates to {declared} bytes; {_LARGEST} at most")
        return file.read().to_pandas()
    except SparsityError:
        raise
    except (OSError, ValueError, pd.errors.ParserError, MemoryError) as error:
        said = str(error).splitlines()[0] if str(error) else "too large"
        raise SparsityError(f"{path}: no readable table ({said})") from error


def arrays_of_table(table: pd.DataFrame, how: How) -> tuple[Any, tuple[str, ...]]:
    """(inputs (N, columns), targets or None), and the names of classes where targets are texts."""
    label = how.label or next((c for c in table.columns if str(c).lower() in _LABELS), None)
    if label is not None and label not in table.columns:
        known = ", ".join(map(str, table.columns[:12]))
        raise SparsityError(f"no column {label!r} in the table; it has {known}")
    columns = [c for c in table.columns if c != label]
    strange = [c for c in columns if not pd.api.types.is_numeric_dtype(table[c])]
    if strange or not columns:
        raise SparsityError(
            f"column {strange[0] if strange else label!r} holds no numbers; leave it out, or name "
            "the column of targets"
        )
    if bool(table[columns].isna().any().any()):
        raise SparsityError("the table has empty cells; fill or drop them first")
    inputs = shaped(table[columns].to_numpy(np.float32), how, "the table")
    if label is None:
        return (inputs, None), how.classes
    targets = table[label]
    if pd.api.types.is_numeric_dtype(targets):
        return (inputs, targets.to_numpy()), how.classes
    classes = how.classes or tuple(sorted(map(str, targets.unique())))
    number = {name: i for i, name in enumerate(classes)}
    if strange := [name for name in map(str, targets.unique()) if name not in number]:
        raise SparsityError(f"class {strange[0]!r} is not among the classes given; name them all")
    return (inputs, np.array([number[str(name)] for name in targets])), classes
