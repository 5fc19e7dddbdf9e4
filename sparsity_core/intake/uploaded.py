"""Models that came through a browser: where they lie, and the reference that opens one.

Each has a token that nobody can guess. What lies there was written by the separate process that
checked the upload (`quarantine`), not by the browser.
"""

import json
import re
import secrets
from pathlib import Path

from sparsity_core.errors import SparsityError
from sparsity_core.folder import default_folder

_TOKEN = re.compile(r"[0-9a-f]{32}")


def new_token() -> str:
    """A name for an upload."""
    return secrets.token_hex(16)


def uploads_folder() -> Path:
    """Where uploads lie: beside the default store."""
    return default_folder() / "uploads"


def reference_behind(token: str) -> str:
    """What opens the upload of a token: a listed model with its weights, or its graph with data."""
    if not _TOKEN.fullmatch(token):
        raise SparsityError(f"upload:{token[:40]!r} is no upload; upload the model again")
    try:
        said = json.loads((uploads_folder() / f"{token}.json").read_text())
        reference: str = said["reference"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SparsityError(
            "this upload is gone, or was never admitted; upload the model again"
        ) from error
    return reference


def forget(token: str) -> None:
    """Remove an upload from the disk."""
    if _TOKEN.fullmatch(token):
        for path in uploads_folder().glob(f"{token}*"):
            path.unlink(missing_ok=True)
