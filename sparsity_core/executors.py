"""Where points run: in this process, or in worker processes that may die without harm.

Plans go out and rows come back as plain data, so that a cluster can take the same seam.
"""

import multiprocessing as mp
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any, Protocol

from sparsity_core.errors import SparsityError
from sparsity_core.plans import Plan, row_from_dict
from sparsity_core.task import load_task

Group = Sequence[Any]  # points
Stopped = Callable[[], bool]

_ATTEMPTS = 2  # a point that was under way twice when its worker died is given up
_POLL = 0.2  # seconds between two looks at `stopped`


class Executor(Protocol):
    """Runs groups of points of one plan."""

    def run(self, plan: Plan, groups: Sequence[Group], stopped: Stopped) -> Iterator[Any]:
        """Rows as they get ready, until all are there or `stopped` answers True."""

    def close(self) -> None:
        """Let go of whatever it holds."""


class InProcess:
    """One point after another, here; `task` saves loading it by name."""

    def __init__(self, task: Any = None) -> None:
        self.task = task

    def run(self, plan: Plan, groups: Sequence[Group], stopped: Stopped) -> Iterator[Any]:
        """Rows as they get ready; `stopped` is asked after each."""
        task = self.task or load_task(plan.model)
        plan.check(task)
        for group in groups:
            for row in plan.run(task, group):
                yield row
                if stopped():
                    return

    def close(self) -> None:
        """Nothing is held."""


class WorkerProcesses:
    """Processes of low priority; they die with this one and are replaced when they die."""

    def __init__(self, count: int = 1) -> None:
        if count < 1:
            raise SparsityError(f"workers must be 1 or more, got {count}")
        self.count = count
        self._workers: list[_Worker] = []

    def run(self, plan: Plan, groups: Sequence[Group], stopped: Stopped) -> Iterator[Any]:
        """Rows as they get ready; a point that kills its worker twice becomes a failed row."""
        waiting = deque(list(group) for group in groups)
        deaths: dict[str, int] = {}
        data = plan.to_dict()
        while len(self._workers) < min(self.count, len(waiting)):
            self._workers.append(_Worker(self.count))
        try:
            while waiting or any(worker.left for worker in self._workers):
                for i, worker in enumerate(self._workers):
                    if not worker.left and waiting:
                        if not worker.alive:
                            worker = self._workers[i] = _Worker(self.count)
                        worker.start(data, waiting.popleft())
                busy = {w.connection: w for w in self._workers if w.left}
                for ready in wait(list(busy), _POLL):
                    worker = busy[ready]  # type: ignore[index]
                    try:
                        if answer := worker.receive():
                            yield row_from_dict(plan.kind, answer)
                    except EOFError:
                        reason = worker.death()
                        under_way, *rest = worker.give_up()
                        deaths[under_way.id] = deaths.get(under_way.id, 0) + 1
                        if deaths[under_way.id] < _ATTEMPTS:
                            waiting.appendleft([under_way, *rest])
                        else:
                            message = f"the worker process died twice ({reason}) at this point"
                            yield plan.unmeasured(under_way, "failed", message)
                            if rest:
                                waiting.appendleft(rest)
                if stopped():
                    return
        finally:
            if any(worker.left for worker in self._workers):
                self.close()

    def close(self) -> None:
        """End the processes at once, whatever they do."""
        for worker in self._workers:
            worker.kill()
        self._workers = []


class _Worker:
    """A process, and the points that it has not answered yet."""

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
        )
        theirs.close()  # so that its end is closed when the process dies
        self.left: list[Any] = []
        self.started = False

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def start(self, plan: dict[str, Any], group: list[Any]) -> None:
        self.left = group
        try:
            self.connection.send((plan, [point.id for point in group]))
        except OSError:
            return  # it died while idle: receiving says so

    def receive(self) -> dict[str, Any] | None:
        """A row, or None for a sign of life; EOFError when the process has died."""
        try:
            answer = self.connection.recv()
        except OSError as error:
            raise EOFError from error
        self.started = True
        if answer is None:
            return None
        if isinstance(answer, str):  # the whole plan is refused, with this reason
            raise SparsityError(answer)
        self.left = [point for point in self.left if point.id != answer["point_id"]]
        return dict(answer)

    def give_up(self) -> list[Any]:
        left, self.left = self.left, []
        self.kill()
        return left

    def death(self) -> str:
        code = self.process.wait(5)
        if not self.started and code > 0:
            raise SparsityError(
                f"a worker process could not start (exit code {code}); its error is in the "
                "terminal: mend the installation, then resume"
            )
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(5)
        self.connection.close()
