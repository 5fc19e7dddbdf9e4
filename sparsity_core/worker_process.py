"""One worker process: points go in, rows come out, and it may die or be ended at any moment."""

import multiprocessing as mp
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from sparsity_core.errors import SparsityError
from sparsity_core.folder import default_folder
from sparsity_core.status import OPEN
from sparsity_core.unsaved import tell

_ENDING = 60.0  # seconds that a process may take to be gone, on a crowded machine


class WorkerProcess:
    """A process of low priority that ends with this one, and the points it has not answered."""

    def __init__(self, workers: int) -> None:
        self.connection, theirs = mp.Pipe()
        descriptor = theirs.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sparsity_core.worker", str(descriptor), str(workers)],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what a model prints belongs in no table
            # What can be imported here can be imported there.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            # Ctrl-C in the terminal is for the parent, which then ends its workers.
            start_new_session=True,
        )
        theirs.close()  # so that its end is closed when the process dies
        self.left: list[Any] = []
        self.ready = False  # has it the model, and begun?
        self.heard = 0.0  # when it last said something
        self.unread = 0  # answers to `prepare`, which say nothing

    @property
    def alive(self) -> bool:
        """Does the process still run?"""
        return self.process.poll() is None

    @property
    def silent(self) -> float:
        """Seconds since it said something; 0 while it loads the model, which may take its time."""
        return time.monotonic() - self.heard if self.ready and self.alive else 0.0

    def start(self, plan: dict[str, Any], group: list[Any]) -> None:
        """Let it measure points of a plan; only when nothing is left of those before."""
        self.left, self.ready = group, False
        self.heard = time.monotonic()
        try:
            self._send(plan, [point.id for point in group])
        except OSError:
            return  # it died while idle: receiving says so

    def prepare(self, plan: dict[str, Any]) -> None:
        """Let it load what a plan needs."""
        with suppress(OSError):  # it died while idle: whoever starts it finds out
            self._send(plan, [])
            self.unread += 1

    def _send(self, plan: dict[str, Any], ids: list[str]) -> None:
        self.connection.send((plan, ids, str(default_folder())))

    def receive(self) -> dict[str, Any] | None:
        """A row, or None for its being ready; EOFError when the process has died.

        What is wrong there with saving is told on.
        """
        try:
            # Without this, a child of the dead process would keep the connection open for ever.
            if not self.alive and not self.connection.poll():
                raise EOFError
            answer = self.connection.recv()
        except OSError as error:
            raise EOFError from error
        if self.unread:
            self.unread -= 1
            return None
        if isinstance(answer, str):  # the whole plan is refused, with this reason
            raise SparsityError(answer)
        self.ready = True
        self.heard = time.monotonic()
        if answer is None:
            return None
        if "unsaved" in answer:
            tell(answer["unsaved"])
            return None
        if answer["status"] != OPEN:
            self.left = [point for point in self.left if point.id != answer["point_id"]]
        return dict(answer)

    def give_up(self) -> list[Any]:
        """End it; the points that it has not answered, first the one that was under way."""
        left, self.left = self.left, []
        self.kill()
        return left

    def death(self) -> str:
        """How it died, in words; SparsityError when it had not even started."""
        code = self.process.wait(_ENDING)
        if not self.ready and code >= 0:
            raise SparsityError(
                f"a worker process could not start (exit code {code}); its error is in the "
                "terminal: mend the installation or the model, then resume"
            )
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End it at once, whatever it does."""
        if self.alive:
            with suppress(ProcessLookupError, PermissionError):  # it has just ended by itself
                os.killpg(self.process.pid, signal.SIGKILL)  # and what it started
        self.process.wait(_ENDING)
        self.connection.close()
