"""What a number was measured on: the device that is used and the versions beside it."""

import contextlib
import os
import platform
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from typing import Any

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


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """On a GPU: float32 is float32, not TF32, and convolutions are the same in every run.

    Otherwise counts there would differ from those on a CPU by more than rounding.
    """
    if not torch.cuda.is_available():
        yield
        return
    places: tuple[tuple[Any, str, bool], ...] = (
        (torch.backends.cuda.matmul, "allow_tf32", False),
        (torch.backends.cudnn, "allow_tf32", False),
        (torch.backends.cudnn, "deterministic", True),
        (torch.backends.cudnn, "benchmark", False),
    )
    before = [getattr(place, name) for place, name, _ in places]
    for place, name, value in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for (place, name, _), value in zip(places, before, strict=True):
            setattr(place, name, value)


@cache
def versions() -> str:
    """The versions that decide a result: this package, torch, Python."""
    return (
        f"sparsity-explorer {version('sparsity-explorer')}, torch {torch.__version__}, "
        f"python {platform.python_version()}"
    )
