"""Who hears that work under way cannot be saved: a job, whose page says so; else a warning."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


def _warn(trouble: str) -> None:
    if trouble:
        warnings.warn(trouble, stacklevel=4)  # where the work is saved


_told: ContextVar[Callable[[str], None]] = ContextVar("told", default=_warn)


@contextmanager
def telling(told: Callable[[str], None]) -> Iterator[None]:
    """Let a function hear what `tell` says in this thread."""
    before = _told.set(told)
    try:
        yield
    finally:
        _told.reset(before)


def tell(trouble: str) -> None:
    """Say why work cannot be saved and what to do; empty when it is saved."""
    _told.get()(trouble)
