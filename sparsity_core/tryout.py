"""A model by reference, opened once in a separate process with a limit on time.

For a server that is to import somebody's code: whether it hangs is found out elsewhere. Started by
`tried`, not by hand: `python -m sparsity_core.tryout REFERENCE`.
"""

import json
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass

from sparsity_core.apart import run_apart
from sparsity_core.errors import SparsityError

_SECONDS = 300.0


@dataclass(frozen=True)
class Tried:
    """What is known of a model that could be opened."""

    notes: tuple[str, ...]
    metric: str
    share: bool  # is the metric shown in per cent?


def tried(reference: str, seconds: float = _SECONDS) -> Tried:
    """Open the task of a reference apart; SparsityError when it cannot be, or not in time."""
    try:
        ended = run_apart("sparsity_core.tryout", reference, seconds)
    except subprocess.TimeoutExpired:
        raise SparsityError(
            f"{reference}: could not be opened within {seconds:g} s; look why the model hangs"
        ) from None
    try:
        answer = json.loads(ended.said.decode().splitlines()[-1])
    except (ValueError, IndexError):
        raise SparsityError(
            f"{reference}: its process died (exit code {ended.code}); the terminal of the "
            "server may show why"
        ) from None
    if "refused" in answer:
        raise SparsityError(answer["refused"])
    return Tried(tuple(answer["notes"]), answer["metric"], answer["share"])


def main() -> None:
    """The separate process; its last line is the answer, whatever a model prints."""
    from sparsity_core.task import load_task

    try:
        with redirect_stdout(sys.stderr):
            task = load_task(sys.argv[1])
        answer = asdict(Tried(task.notes, task.metric.name, task.metric.share))
    except SparsityError as error:
        answer = {"refused": str(error)}
    print("\n" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
