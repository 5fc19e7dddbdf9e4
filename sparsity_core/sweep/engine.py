"""Sweeps that run again only what a layer reaches: the rows of the reference, far sooner.

`bitwise` runs the model's own operations on batches of the same size, so every output has the same
bits. A model or a layer that resists is evaluated whole, and its rows say so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby

import torch
from torch import Tensor, nn

from sparsity_core.setting import Setting
from sparsity_core.status import rows_of
from sparsity_core.sweep.capture import capture
from sparsity_core.sweep.levels import Levels
from sparsity_core.sweep.point import Result, SweepPoint, unmeasured
from sparsity_core.sweep.program import whole
from sparsity_core.sweep.rerun import BATCH, CHECKED, Rerun
from sparsity_core.task import Task
from sparsity_core.train import Evaluation, evaluate
from sparsity_core.workbench import Workbench, workbench

BITWISE = "bitwise"


def measure_bitwise(task: Task, setting: Setting, points: Sequence[SweepPoint]) -> Iterator[Result]:
    """A row for each point, in order; whatever goes wrong with a point is its row's status."""
    for _, group in groupby(points, lambda p: (p.seed, p.scorer, p.structure, p.layer)):
        sweep = _LayerSweep(task, setting, list(group), BITWISE)
        yield from rows_of(sweep.points, sweep.row, sweep.unmeasured)


@dataclass(frozen=True, eq=False)
class Way:
    """How a layer is measured, and what its rows say of that."""

    engine: str
    rerun: Rerun
    note: str = ""


class Ways:
    """The ways of measuring the layers of a workbench: the fast one first, the sure one last."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._chosen: dict[str, Way] = {}

    def to(self, layer: str) -> Way:
        """The first way that does what the model does when the layer is masked."""
        if layer not in self._chosen:
            self._chosen[layer] = self._choose(layer)
        return self._chosen[layer]

    def _choose(self, layer: str) -> Way:
        why = self._steps.program.resists or self._steps.why_not(layer, _same_bits)
        if not why:
            return Way(BITWISE, self._steps)
        return Way(f"{BITWISE}, whole model", self._whole, f"whole model evaluated: {why}")

    @cached_property
    def _steps(self) -> Rerun:
        inputs = self.bench.samples.inputs[:CHECKED]
        with torch.no_grad():
            return Rerun(self.bench, capture(self.bench.model, inputs))

    @cached_property
    def _whole(self) -> Rerun:
        return Rerun(self.bench, whole(self.bench.model, "resists"))


@lru_cache(maxsize=2)
def ways(bench: Workbench) -> Ways:
    """The ways of a workbench, kept for its next layer."""
    return Ways(bench)


class _LayerSweep:
    """Points of one layer that share a scoring."""

    def __init__(self, task: Task, setting: Setting, points: list[SweepPoint], engine: str) -> None:
        self.task, self.setting, self.points, self.engine = task, setting, points, engine
        self._known: dict[int, Evaluation] = {}

    def row(self, point: SweepPoint) -> Result:
        """The point measured; raises what keeps it from being."""
        levels = self.levels
        if levels.refusal(point.sparsity):
            return levels.skipped(point, self.engine)
        place = levels.place(point.sparsity)
        if place not in self._known:
            self._known[place] = self._evaluation(self._outputs(place))
        return levels.row(point, self._known[place], self.way.engine, self.way.note)

    def unmeasured(self, point: SweepPoint, status: str, message: str) -> Result:
        """The row of a point that raised."""
        return unmeasured(self.setting, point, self.engine, status, message)

    @cached_property
    def bench(self) -> Workbench:
        return workbench(self.task, self.setting)

    @cached_property
    def levels(self) -> Levels:
        return Levels(self.bench, self.points)

    @cached_property
    def way(self) -> Way:
        return ways(self.bench).to(self.points[0].layer)

    @cached_property
    def _outputs(self) -> Callable[[int], list[Tensor]]:
        return self.way.rerun.outputs(self.points[0].layer, self.levels.distinct)

    def _evaluation(self, outputs: list[Tensor]) -> Evaluation:
        return evaluate(
            _Replayed(outputs),
            self.bench.samples,
            loss=self.task.loss,
            metric=self.task.metric,
            batch_size=BATCH,
            device=self.setting.device,
        )


class _Replayed(nn.Module):
    """Stands for a model whose outputs for the batches to come are known."""

    def __init__(self, outputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.outputs = iter(outputs)

    def forward(self, _inputs: Tensor) -> Tensor:
        return next(self.outputs)


def _same_bits(expected: Tensor, found: Tensor) -> bool:
    return expected.shape == found.shape and torch.allclose(
        expected, found, rtol=0, atol=0, equal_nan=True
    )
