"""Real data behind one signature: `load_data(name)` gives train, validation and test splits."""

from sparsity_core.data.sources import load_data, missing_data
from sparsity_core.data.split import Dataset, Split

__all__ = ["Dataset", "Split", "load_data", "missing_data"]
