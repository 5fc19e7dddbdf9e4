"""A worker process: plans and point ids in, rows out, all plain data, until the other side is gone.

Started by `executors.WorkerProcesses` as `python -m sparsity_core.worker FD WORKERS`, not by hand.
A fresh interpreter and no child of multiprocessing, which would import the server's main script:
so it loads neither the app nor Streamlit.
"""

import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from sparsity_core.errors import SparsityError
from sparsity_core.folder import default_folder_at
from sparsity_core.plans import plan_from_dict, prepare, units_named, watch
from sparsity_core.task import load_task
from sparsity_core.unsaved import telling

_GONE = (BrokenPipeError, ConnectionResetError)  # what sending says when nobody listens


def main() -> None:
    """Serve the connection whose file descriptor the parent passed on."""
    descriptor, workers = map(int, sys.argv[1:])
    os.nice(10)  # the app beside it stays quick
    # Torch knows the cores that are allowed here, and OMP_NUM_THREADS.
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    threading.Thread(target=_die_with_the_parent, args=(os.getppid(),), daemon=True).start()
    with suppress(EOFError, *_GONE):
        serve(Connection(descriptor))


def serve(connection: Connection) -> None:
    """Answer each (plan, point ids, folder) with None when ready, then its rows; or a refusal.

    Trainings save themselves in the folder, the store's; what is wrong with that comes between the
    rows, as `{"unsaved": ...}`. Without point ids it is a preparation, whose one answer says
    nothing. A task is loaded once for a model, and points are named once for a plan. Raises
    EOFError or an error of the connection when the other side is gone.
    """
    known: Any = None  # what plan, task and points belong to; None until they are found sound
    setting: Any = None
    plan: Any = None
    task: Any = None
    points: dict[str, Any] = {}

    def tell(unsaved: str) -> None:
        connection.send({"unsaved": unsaved})

    while True:
        data, ids, folder = connection.recv()
        try:
            if new := data != known:
                known = None
                plan = plan_from_dict(data)
                if data["setting"] != setting:
                    setting = None
                    task = _task_for(plan, task)
                    setting = data["setting"]
                points = {point.id: point for point in plan.points()}
                known = data
            connection.send(None)
            if new or not ids:  # apart, so that no row's time has it
                with suppress(Exception):  # what keeps points from being measured, their rows say
                    prepare(plan, task)
            with default_folder_at(Path(folder)), telling(tell):
                for row in watch(plan, task, units_named(points, ids)):
                    connection.send(asdict(row))
        except SparsityError as error:
            connection.send(str(error))
        except _GONE:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the job must end with it
            traceback.print_exc()
            connection.send(
                f"unexpected {error!r} in a worker process; the terminal shows where: "
                "resume to try again, please report it"
            )


def _task_for(plan: Any, loaded: Any) -> Any:
    """The task of a plan, None for one without a model; what is loaded already, if it is that."""
    if loaded is not None and loaded.name == plan.model:
        with suppress(SparsityError):
            plan.check(loaded)
            return loaded
    task = load_task(plan.model) if plan.model else None
    plan.check(task)
    return task


def _die_with_the_parent(parent: int) -> None:
    """In mid-point nobody reads the connection, so this thread looks: no orphan computes on."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
