"""What all points of a setting share, measured once: the dense result and the probes."""

import copy
from functools import cached_property, lru_cache

from sparsity_core.data import Split
from sparsity_core.probe import Probe
from sparsity_core.setting import Setting, draw_batches, evaluation_samples
from sparsity_core.task import Task
from sparsity_core.train import Evaluation, evaluate


class Workbench:
    """A task at a setting; it owns a copy of the model, which points mask and restore."""

    def __init__(self, task: Task, setting: Setting) -> None:
        self.task = task
        self.setting = setting
        self.model = copy.deepcopy(task.model).to(setting.device).eval()
        self._probes: dict[int, Probe] = {}

    @cached_property
    def samples(self) -> Split:
        """The samples that report."""
        return evaluation_samples(self.task, self.setting)

    @cached_property
    def dense(self) -> Evaluation:
        """The model as it is, on those samples."""
        return evaluate(
            self.model,
            self.samples,
            loss=self.task.loss,
            metric=self.task.metric,
            device=self.setting.device,
        )

    def probe(self, seed: int) -> Probe:
        """The dense model seen through the train samples that `seed` draws.

        On the CPU that is the task's own model, which nobody changes: one copy less in memory.
        """
        if seed not in self._probes:
            batches = draw_batches(
                self.task.train, self.setting.score_samples, seed, self.setting.device
            )
            elsewhere = self.setting.device != "cpu"
            model = self.model if elsewhere else self.task.model
            self._probes[seed] = Probe(
                model, batches, self.task.loss, seed=seed, own_copy=elsewhere
            )
        return self._probes[seed]


@lru_cache(maxsize=2)
def workbench(task: Task, setting: Setting) -> Workbench:
    """The workbench of a task, kept for the next call with the same task object and setting."""
    return Workbench(task, setting)
