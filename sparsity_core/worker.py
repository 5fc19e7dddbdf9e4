"""A worker process: plans and point ids in, rows out, all plain data, until the other side is gone.

Started by `executors.WorkerProcesses` as `python -m sparsity_core.worker FD WORKERS`, not by hand.
A fresh interpreter and no child of multiprocessing, which would import the server's main script:
so it loads neither the app nor Streamlit.
"""

import os
import sys
import threading
import time
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import torch

from sparsity_core.errors import SparsityError
from sparsity_core.plans import Plan, plan_from_dict
from sparsity_core.task import load_task


def main() -> None:
    """Serve the connection whose file descriptor the parent passed on."""
    descriptor, workers = map(int, sys.argv[1:])
    os.nice(10)  # the app beside it stays quick
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    threading.Thread(target=_die_with_the_parent, args=(os.getppid(),), daemon=True).start()
    serve(Connection(descriptor))


def serve(connection: Connection) -> None:
    """Answer each (plan, point ids) with its rows; a task is loaded once for a setting."""
    setting: Any = None
    task: Any = None
    connection.send(None)  # it has started
    while True:
        try:
            data, ids = connection.recv()
        except EOFError:
            return
        plan: Plan = plan_from_dict(data)
        if data["setting"] != setting:
            try:
                task = load_task(plan.model)
                plan.check(task)
            except SparsityError as error:
                connection.send(str(error))
                continue
            setting = data["setting"]
        points = {point.id: point for point in plan.points()}
        for row in plan.run(task, [points[i] for i in ids]):
            connection.send(asdict(row))


def _die_with_the_parent(parent: int) -> None:
    """In mid-point nobody reads the connection, so this thread looks: no orphan computes on."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
