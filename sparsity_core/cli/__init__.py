"""The command `sparsity`."""

from sparsity_core.cli.main import main

__all__ = ["main"]
