"""Where data lies (SPARSITY_DATA) and where decoded copies are kept (SPARSITY_CACHE)."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from sparsity_core.errors import SparsityError


def data_folder() -> Path | None:
    """The folder that SPARSITY_DATA names, or None."""
    folder = os.environ.get("SPARSITY_DATA")
    return Path(folder).expanduser() if folder else None


def cache_folder() -> Path:
    """The folder for decoded copies, made when needed."""
    given = os.environ.get("SPARSITY_CACHE")
    folder = Path(given).expanduser() if given else user_cache_path("sparsity-explorer")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SparsityError(
            f"cannot write to the cache ({error}); set SPARSITY_CACHE to another folder"
        ) from error
    return folder


def find(path: str) -> Path:
    """A path as given, or below SPARSITY_DATA; raises SparsityError when it is in neither."""
    candidates = [Path(path).expanduser()]
    if (folder := data_folder()) and not candidates[0].is_absolute():
        candidates.insert(0, folder / path)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    places = " or ".join(str(c) for c in candidates)
    raise SparsityError(f"no data at {places}; check the path or set SPARSITY_DATA")
