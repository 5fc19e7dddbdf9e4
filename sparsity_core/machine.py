"""What a number was measured on: the device that is used and the versions beside it."""

import os
import platform
from functools import cache
from importlib.metadata import version

import torch

from sparsity_core.errors import SparsityError

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(choice: str) -> str:
    """`cpu` or `cuda` for a choice among DEVICES; an explicit `cuda` without a GPU is an error."""
    if choice not in DEVICES:
        raise SparsityError(f"unknown device {choice!r}; choose one of {', '.join(DEVICES)}")
    if choice == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if choice == "cuda" and not torch.cuda.is_available():
        raise SparsityError("device cuda: torch finds no GPU here; choose auto or cpu")
    return choice


def device_label(device: str) -> str:
    """The device as a person names it, with its threads: `cpu (x86_64, 2 of 8 threads)`."""
    if device == "cuda":
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} threads)"


@cache
def versions() -> str:
    """The versions that decide a result: this package, torch, Python."""
    return (
        f"sparsity-explorer {version('sparsity-explorer')}, torch {torch.__version__}, "
        f"python {platform.python_version()}"
    )
