"""Runs a plan of tickets into a store, so that a script that was stopped goes on."""

import os
import time
from pathlib import Path

import torch

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
