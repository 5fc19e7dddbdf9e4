"""What all points of a setting share, measured once: the dense result and the probes."""

from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property, lru_cache

import numpy as np
import torch

from sparsity_core.borrowed import Borrowed
from sparsity_core.data import Split
from sparsity_core.data.remembered import remembered
from sparsity_core.machine import device_label, versions
from sparsity_core.probe import Probe
from sparsity_core.setting import Setting, draw_batches, evaluation_samples
from sparsity_core.task import Task, catalog, cross_entropy
from sparsity_core.train import Evaluation, evaluate


class Workbench:
    """A task at a setting, and a model that points mask for a while."""

    def __init__(self, task: Task, setting: Setting) -> None:
        self.task = task
        self.setting = setting
        borrowed = Borrowed(task.model, setting.device)
        self.model, self.masked = borrowed.model, borrowed.masked
        self._probes: dict[int, Probe] = {}

    @cached_property
    def samples(self) -> Split:
        """The samples that report."""
        return evaluation_samples(self.task, self.setting)

    @cached_property
    def dense(self) -> Evaluation:
        """The model as it is, on those samples; for one of the catalog only once on a machine."""

        def measured() -> Evaluation:
            return evaluate(
                self.model,
                self.samples,
                loss=self.task.loss,
                metric=self.task.metric,
                device=self.setting.device,
            )

        # Nothing names the code of other models or losses, which may change.
        known = self.setting.model in catalog() and self.task.loss is cross_entropy
        return self._remembered(measured) if known else measured()

    def _remembered(self, measured: Callable[[], Evaluation]) -> Evaluation:
        """An evaluation that takes a second or more, as it was measured before to the last bit."""
        machine = [device_label(self.setting.device), torch.backends.cpu.get_cpu_capability()]
        found = remembered(
            "dense", [asdict(self.setting), machine, versions()], lambda: _arrays(measured())
        )
        tensors = {name: torch.from_numpy(array) for name, array in found.items()}
        return Evaluation(**tensors, metric=self.task.metric)

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


def _arrays(evaluation: Evaluation) -> dict[str, np.ndarray]:
    names = ("values", "losses", "predictions", "confidences")
    tensors = {name: getattr(evaluation, name) for name in names}
    return {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}


@lru_cache(maxsize=2)
def workbench(task: Task, setting: Setting) -> Workbench:
    """The workbench of a task, kept for the next call with the same task object and setting."""
    return Workbench(task, setting)
