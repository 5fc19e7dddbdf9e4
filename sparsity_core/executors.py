"""Where points run: in this process, or in worker processes that may die without harm.

Plans go out and rows come back as plain data, so that a cluster can take the same seam.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any, Protocol

from sparsity_core.errors import SparsityError
from sparsity_core.plans import Plan, prepare, row_from_dict, watch
from sparsity_core.task import load_task
from sparsity_core.worker_process import WorkerProcess

Group = Sequence[Any]  # points
Stopped = Callable[[], bool]

_ATTEMPTS = 2  # a point that was under way twice when its worker died is given up
_NO_TASK: Any = None
_POLL = 0.2  # seconds between two looks at `stopped`


class Executor(Protocol):
    """Runs groups of points of one plan; a group is asked for when its turn has come."""

    @property
    def count(self) -> int:
        """How many groups are under way at a time."""

    def run(self, plan: Plan, groups: Iterable[Group], stopped: Stopped) -> Iterator[Any]:
        """Rows as they get ready, until all are there or `stopped` answers True.

        Those with status `open` tell of a point that is under way: its row is still to come.
        """

    def prepare(self, plan: Plan) -> None:
        """Begin to load what a plan needs; called by whoever calls `run`, before it."""

    def close(self) -> None:
        """Let go of whatever it holds."""


class InProcess:
    """One point after another, here; `task` saves loading it by name."""

    count = 1

    def __init__(self, task: Any = None) -> None:
        self.task = task

    def run(self, plan: Plan, groups: Iterable[Group], stopped: Stopped) -> Iterator[Any]:
        """Rows as they get ready; `stopped` is asked after each."""
        checked, first = _NO_TASK, True
        for group in groups:
            if first:
                first = False
                # Kernels may be timed on random weights, without a model.
                checked = (self.task or load_task(plan.model)) if plan.model else _NO_TASK
                plan.check(checked)
                with suppress(Exception):  # what keeps points from being measured, their rows say
                    prepare(plan, checked)
            for row in watch(plan, checked, group):
                yield row
                if stopped():
                    return

    def prepare(self, plan: Plan) -> None:
        """Nothing: loading would hold up the caller."""

    def close(self) -> None:
        """Nothing is held."""


class WorkerProcesses:
    """Processes of low priority; they die with this one and are replaced when they die.

    One that has said nothing for `patience` seconds, once it has the model, is ended; `patience`
    may also be a function that says how many a plan has.
    """

    def __init__(
        self, count: int = 1, patience: float | Callable[[Plan], float] = math.inf
    ) -> None:
        if count < 1:
            raise SparsityError(f"workers must be 1 or more, got {count}")
        if not callable(patience) and not patience > 0:
            raise SparsityError(f"the time limit must be more than 0 s, got {patience:g}")
        self.count = count
        self.patience = patience
        self._workers: list[WorkerProcess] = []

    def run(self, plan: Plan, groups: Iterable[Group], stopped: Stopped) -> Iterator[Any]:
        """Rows as they get ready; a point that kills its worker twice becomes a failed row."""
        source = iter(groups)
        again: deque[list[Any]] = deque()  # what dead workers left
        deaths: Counter[str] = Counter()
        data = plan.to_dict()
        patience = self.patience(plan) if callable(self.patience) else self.patience
        try:
            while True:
                for i in range(self.count):
                    if self._left_of(i):
                        continue
                    group = again.popleft() if again else list(next(source, []))
                    if not group:
                        break
                    self._living(i).start(data, group)
                busy = {w.connection: w for w in self._workers if w.left}
                if not busy:
                    return
                ready = wait(list(busy), _POLL)
                for worker in [w for c, w in busy.items() if c in ready or not w.alive]:
                    try:
                        if answer := worker.receive():
                            yield row_from_dict(plan.kind, answer)
                    except EOFError:
                        reason = worker.death()
                        under_way, *rest = worker.give_up()
                        deaths[under_way.id] += 1
                        if deaths[under_way.id] < _ATTEMPTS:
                            again.append([under_way, *rest])
                            continue
                        if not worker.ready:
                            raise SparsityError(
                                f"worker processes died ({reason}) before they could measure "
                                f"{plan.model}; free memory, then resume"
                            ) from None
                        message = f"the worker process died twice ({reason}) at this point"
                        yield plan.unmeasured(under_way, "failed", message)
                        if rest:
                            again.append(rest)
                for worker in [w for w in busy.values() if w.left and w.silent > patience]:
                    under_way, *rest = worker.give_up()
                    message = (
                        f"took longer than the time limit of {patience:g} s; allow more, or "
                        "look why the model hangs"
                    )
                    yield plan.unmeasured(under_way, "failed", message)
                    if rest:
                        again.append(rest)
                if stopped():
                    return
        finally:
            if any(worker.left for worker in self._workers):
                self.close()

    def prepare(self, plan: Plan) -> None:
        """Start the processes that are not there and let all load the task; returns at once."""
        data = plan.to_dict()
        for i in range(self.count):
            self._living(i).prepare(data)

    def _left_of(self, i: int) -> list[Any]:
        return self._workers[i].left if i < len(self._workers) else []

    def _living(self, i: int) -> "WorkerProcess":
        """The worker at a place, a new one where there is none or it has died."""
        if i == len(self._workers):
            self._workers.append(WorkerProcess(self.count))
        elif not self._workers[i].alive:
            self._workers[i] = WorkerProcess(self.count)
        return self._workers[i]

    def close(self) -> None:
        """End the processes at once, whatever they do."""
        for worker in self._workers:
            worker.kill()
        self._workers = []
