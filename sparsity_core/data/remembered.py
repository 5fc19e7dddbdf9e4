"""Arrays that take a while to make, kept in the cache folder for the next process."""

import os
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sparsity_core.data.environment import cache_folder
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError

_WORTH = 0.2  # seconds that making them takes, imports included; what is sooner made is not kept

_BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)

Arrays = Mapping[str, np.ndarray]


def remembered(kind: str, key: Any, make: Callable[[], Arrays]) -> Arrays:
    """What `make` gives; read from the cache when it was made before for the same key.

    `key` is plain data that names all that the arrays depend on. The cache only saves time: where
    it cannot be written or a copy is broken, they are made again.
    """
    try:
        path = cache_folder() / f"{kind}-{digest_of(key)}.npz"
    except SparsityError:
        return make()
    with suppress(*_BROKEN), path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
        return dict(kept)
    started = time.perf_counter()
    arrays = make()
    if time.perf_counter() - started >= _WORTH:
        with suppress(OSError):
            write_arrays(path, arrays)
    return arrays


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write an npz file: whoever reads meanwhile sees a whole one or none. Raises OSError."""
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        with partial.open("wb") as file:
            np.savez(file, **dict[str, Any](arrays))
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
