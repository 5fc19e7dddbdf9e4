"""Submit a plan, watch it, cancel it, resume what is missing."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsity_core import checkpoint
from sparsity_core.errors import SparsityError
from sparsity_core.executors import Executor
from sparsity_core.folder import default_folder_at
from sparsity_core.gathering import Gathering
from sparsity_core.groups_left import GroupsLeft
from sparsity_core.plans import Plan, groups_for
from sparsity_core.status import OPEN
from sparsity_core.store import Store
from sparsity_core.sweep.share import Part
from sparsity_core.time_left import Done, TimeLeft, WorkLeft
from sparsity_core.unsaved import telling


@dataclass(frozen=True)
class JobView:
    """A job at one moment."""

    id: str
    title: str
    state: str  # one of store.STATES
    total: int
    done: int  # stored, before or by this job
    failed: int
    eta: float | None  # seconds left; None while unknown
    at_most: bool  # may it be sooner done, as points of early answers stop when they are settled?
    message: str
    unsaved: str = ""  # why work under way cannot be saved, and what to do

    @property
    def active(self) -> bool:
        """Will it still change?"""
        return self.state in ("queued", "running")


class Job:
    """A plan on its way: only this process writes its rows, from one thread."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        retry_failed: bool = False,
        work: Mapping[str, float] | None = None,
    ) -> None:
        """`work`: how much each point is, by id, in any unit; without it all are the same."""
        self.plan = plan
        self.store = store
        self._state = "queued"
        self._message = self._unsaved = ""
        self._under_way: dict[str, Any] = {}
        self._cancelled = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        points = plan.points()
        self.total = len(points)
        self._retry_failed = retry_failed
        self._done = self._failed = 0
        self.missing = self._not_stored(points)
        self._work = work
        self._time_left: WorkLeft = TimeLeft(work or {}, [point.id for point in self.missing])
        self._gathering = Gathering(plan, store)
        store.save_run(plan)

    @property
    def id(self) -> str:
        """The plan's digest."""
        return self.plan.digest

    @property
    def view(self) -> JobView:
        """Where it stands; cheap, from any thread."""
        with self._lock:
            return JobView(
                id=self.id,
                title=self.plan.title,
                state=self._state,
                total=self.total,
                done=self._done,
                failed=self._failed,
                eta=self._time_left.seconds(time.monotonic()) if self._state == "running" else None,
                at_most=self._early,
                message=self._message,
                unsaved=self._unsaved if self._state == "running" else "",
            )

    @property
    def under_way(self) -> list[Any]:
        """What is known of points whose row is still to come: rows with status `open`."""
        with self._lock:
            return list(self._under_way.values())

    def run(self, executor: Executor) -> None:
        """Measure what is missing and store it row by row; called once, by whoever runs jobs."""
        if not self._leave_queue("running"):
            return
        try:
            self._foretell_by_groups(executor.count)
            self.store.set_state(self.id, "running")
            # Trainings save themselves beside this store.
            with telling(self._hear), default_folder_at(self.store.folder):
                units = self._units(executor.count)
                for row in executor.run(self.plan, units, self._cancelled.is_set):
                    self._receive(row)
            self._end("cancelled" if self._cancelled.is_set() else "done")
        except SparsityError as error:
            self._end("failed", str(error))
        except Exception as error:  # noqa: BLE001 - a job must end with a state, never in silence
            self._end("failed", f"unexpected {error!r}; resume to try again, please report it")

    def _hear(self, unsaved: str) -> None:
        with self._lock:
            self._unsaved = unsaved

    def _receive(self, row: Any) -> None:
        """Take what an executor gives: a row, a part of one, or how far a point is."""
        if isinstance(row, Part):
            self._take(row)
        elif row.status == OPEN:
            with self._lock:
                self._under_way[row.point_id] = row
            self._note(row, settled=False)
        else:
            self._keep(row, row.seconds)

    def cancel(self) -> None:
        """Stop soon; what is stored stays, and resuming runs only what is missing."""
        self._cancelled.set()
        if self._leave_queue("cancelled"):
            self._end("cancelled")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False when the time was too short."""
        return self._ended.wait(timeout)

    @property
    def _early(self) -> bool:
        return getattr(self.plan, "question", None) is not None

    def _note(self, row: Any, settled: bool, seconds: float = 0.0) -> None:
        """How much of its work a row's point has had, and whether that is all."""
        setting: Any = getattr(self.plan, "setting", None)
        share = row.samples / setting.samples if self._early and row.samples else 1.0
        self._note_share(row.point_id, share, settled, seconds)

    def _note_share(self, point_id: str, share: float, settled: bool, seconds: float) -> None:
        with self._lock:
            self._time_left.note(Done(point_id, share, time.monotonic(), settled, seconds))

    def _foretell_by_groups(self, workers: int) -> None:
        """Of a sweep whose points' work is known, groups tell more of the time left than rows."""
        if self._work is None or self._early:
            return
        groups = self.plan.groups(self.missing)
        pieces = [len(cuts) for cuts in self._gathering.cuts(groups, self._work, workers)]
        names = [[point.id for point in group] for group in groups]
        with self._lock:
            self._time_left = GroupsLeft(self._work, names, workers, pieces)

    def _keep(self, row: Any, seconds: float) -> None:
        """Store the row of a point, which took so long here."""
        self.store.add(self.plan.kind, [row])
        if row.status != "failed":  # what had failed is tried again
            checkpoint.delete(checkpoint.under_way(row.point_id))
        with self._lock:
            self._under_way.pop(row.point_id, None)
            self._done += 1
            self._failed += row.status == "failed"
        self._note(row, settled=True, seconds=seconds)

    def _take(self, part: Part) -> None:
        """Store a part of a point, and the point's row when it is the last one."""
        if row := self._gathering.take(part):
            self._keep(row, part.seconds)
        else:
            share = self._gathering.seen(part.owner)
            self._note_share(part.owner, share, False, part.seconds)

    def _units(self, workers: int) -> Iterator[list[Any]]:
        """What is missing, each group looked up when its turn comes: jobs may share points."""
        groups = groups_for(self.plan, self.missing, workers) if self.missing else []
        cuts = self._gathering.cuts(groups, self._work or {}, workers)
        for group, own in zip(groups, cuts, strict=True):
            known = {point.id for point in group}
            missing = self._not_stored(group)
            known -= {point.id for point in missing}
            with self._lock:  # another job has measured them meanwhile
                self._time_left.drop(known)
            for row in self._gathering.begin(missing):  # all of them were measured before
                with self._lock:
                    self._time_left.drop([row.point_id])
                self._keep(row, 0.0)
            with self._lock:
                for point in missing:
                    self._time_left.begun(point.id, self._gathering.seen(point.id))
            yield from self._gathering.units(missing, own)

    def _not_stored(self, points: Sequence[Any]) -> list[Any]:
        """Those of the points that have to be measured; the others are counted."""
        stored = self.store.statuses([point.id for point in points])
        if self._retry_failed:
            stored = {i: status for i, status in stored.items() if status != "failed"}
        with self._lock:
            self._done += len(stored)
            self._failed += sum(status == "failed" for status in stored.values())
        return [point for point in points if point.id not in stored]

    def _leave_queue(self, state: str) -> bool:
        """Take this state if the job is still queued: either it begins or it is cancelled."""
        with self._lock:
            queued = self._state == "queued"
            if queued:
                self._state = state
        return queued

    def _end(self, state: str, message: str = "") -> None:
        try:
            self.store.set_state(self.id, state, message)
        except SparsityError as error:  # the disk that failed the job may fail this note too
            state, message = "failed", message or str(error)
        with self._lock:
            self._state, self._message = state, message
        self._ended.set()


def submit(
    plan: Plan,
    store: Store,
    executor: Executor,
    retry_failed: bool = False,
    work: Mapping[str, float] | None = None,
) -> Job:
    """Start a job in a thread of its own and return at once; `work` as for `Job`."""
    job = Job(plan, store, retry_failed, work)
    threading.Thread(target=job.run, args=(executor,), daemon=True).start()
    return job
