"""What lets a script that was stopped go on: plans in a store, and numbers seed by seed."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from sparsity_core import checkpoint
from sparsity_core.checkpoint import UnderWay
from sparsity_core.digest import digest_of
from sparsity_core.executors import InProcess
from sparsity_core.jobs import Job
from sparsity_core.store import Store
from sparsity_core.task import Task
from sparsity_core.tickets.plan import TicketPlan
from sparsity_core.tickets.row import TicketResult


def rows_of(plan: TicketPlan, task: Task, folder: Path, only_stored: bool) -> list[TicketResult]:
    """All rows of a plan; what is not stored yet is trained now, unless only stored rows count."""
    os.environ["SPARSITY_STORE"] = str(folder)  # where checkpoints go too
    torch.set_num_threads(1)
    store = Store(folder)
    if not only_stored:
        started = time.monotonic()
        job = Job(plan, store, retry_failed=True)
        job.run(InProcess(task))
        view = job.view
        minutes = (time.monotonic() - started) / 60
        print(f"{view.state} {view.message}: {view.done} of {view.total} in {minutes:.1f} min")
    rows: list[TicketResult] = store.rows(plan)
    for row in rows:
        if row.status != "ok":
            print(f"{row.arm}, round {row.round}, seed {row.seed}: {row.status}: {row.message}")
    return [row for row in rows if row.value is not None]


class Kept:
    """Numbers that take minutes, kept until the table is printed: `what` says all they depend on.

    A measurement asks for a name for each of its trainings, which then goes on where it was killed.
    """

    def __init__(self) -> None:
        self._names: list[str] = []

    def numbers(
        self, what: Any, measure: Callable[[Callable[[str], UnderWay]], Sequence[float]]
    ) -> list[float]:
        """What `measure` finds, or found before the script was killed."""
        name = digest_of(["kept numbers", what])
        self._names.append(name)
        if saved := checkpoint.load(name):
            return [float(number) for number in saved["numbers"]]
        trainings: list[UnderWay] = []

        def under_way(title: str) -> UnderWay:
            trainings.append(UnderWay(f"{name}-{title}"))
            return trainings[-1]

        found = [float(number) for number in measure(under_way)]
        checkpoint.save(name, {"numbers": found})
        for training in trainings:
            training.delete()
        return found

    def forget(self) -> None:
        """The table is printed: the next run measures anew."""
        for name in self._names:
            checkpoint.delete(name)
