"""Plans that wait for their turn: one job after another, by one thread of this process."""

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from sparsity_core.errors import SparsityError
from sparsity_core.executors import Executor
from sparsity_core.folder import default_folder_at
from sparsity_core.jobs import Job
from sparsity_core.plans import Plan
from sparsity_core.store import Store


class JobQueue:
    """The jobs of one process, run one after another by one thread."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self.store = store
        self.executor = executor
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._expected: Plan | None = None  # to be prepared for
        self._prepared: Any = None
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="sparsity-jobs")
        self._thread.start()

    def prepare(self, plan: Plan) -> None:
        """Let idle workers load what a plan needs, before anybody submits it; costs a moment."""
        with self._change:
            if (plan.kind, plan.to_dict().get("setting")) != self._prepared:
                self._prepared = plan.kind, plan.to_dict().get("setting")
                self._expected = plan
                self._change.notify()

    def submit(
        self, plan: Plan, retry_failed: bool = False, work: Mapping[str, float] | None = None
    ) -> Job:
        """A job for the plan; an equal plan that is queued or running is the same job."""
        with self._change:
            if self._closed:
                raise SparsityError("the queue is closed; start again to submit")
            known = self._jobs.get(plan.digest)
            if known and known.view.active:
                return known
            job = Job(plan, self.store, retry_failed, work)
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._change.notify()
            return job

    def resume(self, run_id: str) -> Job:
        """A job for what is missing of a stored run, failed points included."""
        return self.submit(self.store.plan(run_id), retry_failed=True)

    def get(self, run_id: str) -> Job | None:
        """The job of this process with that id."""
        return self._jobs.get(run_id)

    def jobs(self) -> list[Job]:
        """All jobs of this process, the oldest first."""
        return list(self._jobs.values())

    def close(self) -> None:
        """Cancel everything and end the workers."""
        with self._change:
            self._closed = True
            for job in self._jobs.values():
                job.cancel()
            self._change.notify()
        self._thread.join(10)
        self.executor.close()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._expected or self._closed)
                if self._closed and not self._waiting:
                    return
                job = self._waiting.popleft() if self._waiting else None
                expected, self._expected = self._expected, None
            if job:
                job.run(self.executor)
            elif expected:
                with default_folder_at(self.store.folder):
                    self.executor.prepare(expected)
