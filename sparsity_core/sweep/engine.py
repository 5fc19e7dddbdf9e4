"""Sweeps that run again only what a layer reaches: the rows of the reference, far sooner.

`bitwise` runs the model's own operations on batches of the same size: every output has the same
bits. `exact` fuses them, in pieces that stay in the cache; where two outputs come so near that
rounding could change a prediction, the model itself has the last word. So its counts are the same,
and its losses but for rounding. `verified` does every point in bfloat16 first, and in float32 what
that leaves in doubt: the same counts, as far as audits tell, and approximate losses; the rows say
how many samples were run again. A layer that resists is measured in a slower way that does not,
and its rows say so.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import groupby

from torch import Tensor

from sparsity_core.setting import Setting
from sparsity_core.status import rows_of
from sparsity_core.sweep.levels import Levels
from sparsity_core.sweep.point import Result, SweepPoint, unmeasured
from sparsity_core.sweep.rerun import BUDGET
from sparsity_core.sweep.screen import Screened
from sparsity_core.sweep.ways import BITWISE, EXACT, VERIFIED, Way, evaluated, ways, without_screen
from sparsity_core.task import Task
from sparsity_core.train import Evaluation
from sparsity_core.workbench import Workbench, workbench


def measure_bitwise(
    task: Task, setting: Setting, points: Sequence[SweepPoint], memory: int = BUDGET
) -> Iterator[Result]:
    """A row for each point, in order; whatever goes wrong with a point is its row's status.

    `memory`: bytes of dense values that may be kept between layers; it changes no number.
    """
    return _measure(task, setting, points, BITWISE, memory)


def measure_exact(
    task: Task, setting: Setting, points: Sequence[SweepPoint], memory: int = BUDGET
) -> Iterator[Result]:
    """A row for each point, in order; whatever goes wrong with a point is its row's status.

    `memory`: bytes of dense values that may be kept between layers; it changes no number.
    """
    return _measure(task, setting, points, EXACT, memory)


def measure_verified(
    task: Task, setting: Setting, points: Sequence[SweepPoint], memory: int = BUDGET
) -> Iterator[Result]:
    """A row for each point, in order; whatever goes wrong with a point is its row's status.

    `memory`: bytes of dense values that may be kept between layers; it changes no count.
    """
    return _measure(task, setting, points, VERIFIED, memory)


def held_bytes(task: Task, setting: Setting, engine: str, memory: int = BUDGET) -> int:
    """The dense values that a sweep will hold between two layers, at most; known before it runs.

    Besides the model, the samples and the working memory of one batch. At most `memory`.
    """
    return ways(workbench(task, setting), engine, memory).first.held_bytes


def _measure(
    task: Task, setting: Setting, points: Sequence[SweepPoint], engine: str, memory: int
) -> Iterator[Result]:
    for _, group in groupby(points, lambda p: (p.seed, p.scorer, p.structure, p.layer)):
        sweep = _LayerSweep(task, setting, list(group), engine, memory)
        yield from rows_of(sweep.points, sweep.row, sweep.unmeasured)


class _LayerSweep:
    """Points of one layer that share a scoring."""

    def __init__(
        self, task: Task, setting: Setting, points: list[SweepPoint], engine: str, memory: int
    ) -> None:
        self.task, self.setting, self.points = task, setting, points
        self.engine, self.memory = engine, memory
        self._known: dict[int, Evaluation] = {}

    def row(self, point: SweepPoint) -> Result:
        """The point measured; raises what keeps it from being."""
        levels = self.levels
        if levels.refusal(point.sparsity):
            return levels.skipped(point, self.engine)
        place = levels.place(point.sparsity)
        note = self.way.note
        if place not in self._known:
            outputs, masks = self._outputs(place), levels.distinct[place]
            self._known[place] = evaluated(self.bench, self.way, outputs, masks)
        if not isinstance(self._screened, str):
            note = self._screened[place].note
        return levels.row(point, self._known[place], self.way.engine, note)

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
        way = self._first_way
        if way.screen and isinstance(self._screened, str):
            return without_screen(way, self._screened)
        return way

    @cached_property
    def _outputs(self) -> Callable[[int], list[Tensor]]:
        screened = self._screened
        if not isinstance(screened, str):
            return lambda place: [screened[place].outputs]
        learn = self.way.margins.learn if self.way.margins else None
        return self.way.rerun.outputs(self.points[0].layer, self.levels.distinct, learn)

    @cached_property
    def _first_way(self) -> Way:
        return ways(self.bench, self.engine, self.memory).to(self.points[0].layer)

    @cached_property
    def _screened(self) -> list[Screened] | str:
        """What a look in bfloat16 gives, or why there is none."""
        if screen := self._first_way.screen:
            return screen.screened(self.points[0].layer, self.levels.distinct)
        return "the way has no screen"
