"""A point that cannot be measured is a row with a status and a message, never a missing row."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.machine import full_precision

# ok        measured
# skipped   the structure does not fit the layer, or cannot have this sparsity; not measured
# collapsed measured, but a layer has no weight left: its number says nothing about sparsity
# nan       weights, scores or outputs are NaN or infinite; not measured
# failed    anything else; the message says what
STATUSES = ("ok", "skipped", "collapsed", "nan", "failed")

# What is told of a point while it is under way, and never stored: its row is still to come.
OPEN = "open"

Point = TypeVar("Point")


def rows_of(
    points: Sequence[Point],
    measure: Callable[[Point], Any],
    unmeasured: Callable[[Point, str, str], Any],
) -> Iterator[Any]:
    """A row for each point, in order, with the seconds it took; `measure` may raise anything.

    `unmeasured(point, status, message)` makes the row of a point whose measurement raised.
    """
    for point in points:
        started = time.perf_counter()
        try:
            with full_precision():
                row = measure(point)
        except NonFiniteError as error:
            row = unmeasured(point, "nan", str(error))
        except Exception as error:  # noqa: BLE001 - a failed point is a row, whatever failed
            message = str(error) if isinstance(error, SparsityError) else repr(error)
            row = unmeasured(point, "failed", message)
        yield replace(row, seconds=time.perf_counter() - started)
