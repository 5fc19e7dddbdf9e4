"""Where what is measured is kept."""

import os
from pathlib import Path

from platformdirs import user_data_path


def default_folder() -> Path:
    """SPARSITY_STORE, or the user's data folder."""
    given = os.environ.get("SPARSITY_STORE")
    return Path(given).expanduser() if given else user_data_path("sparsity-explorer")
