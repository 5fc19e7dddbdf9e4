"""Where what is measured is kept."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_data_path


def default_folder() -> Path:
    """SPARSITY_STORE, or the user's data folder."""
    given = os.environ.get("SPARSITY_STORE")
    return Path(given).expanduser() if given else user_data_path("sparsity-explorer")


@contextmanager
def default_folder_at(folder: Path | None) -> Iterator[None]:
    """Meanwhile the default is this folder, in processes started meanwhile too; None = as ever."""
    before = os.environ.get("SPARSITY_STORE")
    if folder is not None:
        os.environ["SPARSITY_STORE"] = str(folder)
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop("SPARSITY_STORE")
            if before is not None:
                os.environ["SPARSITY_STORE"] = before
