"""Errors a person can act on: each names the thing and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class SparsityError(ValueError):
    """A request that cannot be met; the command prints it as one line and exits with code 2."""


class NonFiniteError(SparsityError):
    """A weight, score or output is NaN or infinite; a sweep records it as the status `nan`."""


def unknown(what: str, given: str, known: Iterable[str]) -> SparsityError:
    """An error that names an unknown choice, the nearest known one, and all known ones."""
    names = list(known)
    near = get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}? Known:" if near else "; known:"
    return SparsityError(f"unknown {what} {given!r}{hint} {', '.join(names) or 'none'}")
