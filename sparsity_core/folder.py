"""Where what is measured is kept."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from platformdirs import user_data_path

_CHOSEN: ContextVar[Path | None] = ContextVar("the folder of the store in use", default=None)


def default_folder() -> Path:
    """That of the store in use; else SPARSITY_STORE, or the user's data folder."""
    if chosen := _CHOSEN.get():
        return chosen
    given = os.environ.get("SPARSITY_STORE")
    return Path(given).expanduser() if given else user_data_path("sparsity-explorer")


@contextmanager
def default_folder_at(folder: Path | None) -> Iterator[None]:
    """Meanwhile the default is this folder, in this thread; None = as ever."""
    token = _CHOSEN.set(folder or _CHOSEN.get())
    try:
        yield
    finally:
        _CHOSEN.reset(token)
