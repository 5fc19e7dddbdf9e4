"""The ways in which a layer can be measured: the fast one first, the sure one last."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.sweep.capture import capture
from sparsity_core.sweep.fused import fuse
from sparsity_core.sweep.heap import give_back
from sparsity_core.sweep.lowered import check_fast_bf16
from sparsity_core.sweep.margin import Margins
from sparsity_core.sweep.program import Program, whole
from sparsity_core.sweep.rerun import BATCH, CHECKED, Rerun
from sparsity_core.sweep.rescue import Rescue
from sparsity_core.sweep.screen import Screen
from sparsity_core.sweep.shapes import LEAST
from sparsity_core.sweep.verdict import Verdict
from sparsity_core.task import ACCURACY
from sparsity_core.train import Evaluation, check_broken, evaluate
from sparsity_core.weights import Masks
from sparsity_core.workbench import Workbench

BITWISE, EXACT, VERIFIED = "bitwise", "exact", "verified"

# Largest difference of a fused program's outputs from the model's, as a share of the largest
# output: one that is further away does something else.
_ROUNDING = 1e-4
_LEARNT = 64  # samples whose rounding is looked at before the first layer


@dataclass(frozen=True, eq=False)
class Way:
    """How a layer is measured, and what its rows say of that."""

    engine: str
    rerun: Rerun
    margins: Margins | None = None  # None = the outputs have the model's bits
    note: str = ""
    screen: Screen | None = None  # what looks at every point first


def without_screen(way: Way, why: str) -> Way:
    """The same in float32 only."""
    return replace(way, engine=f"{way.engine}, float32", note=f"not screened: {why}", screen=None)


class Ways:
    """The ways of measuring the layers of a workbench: the fast one first, the sure one last."""

    def __init__(self, bench: Workbench, engine: str, memory: int) -> None:
        self.bench = bench
        self.engine = engine
        self.memory = memory
        self._chosen: dict[str, Way] = {}

    def to(self, layer: str) -> Way:
        """The first way that does what the model does when the layer is masked."""
        if layer not in self._chosen:
            self._chosen[layer] = self._choose(layer)
        for rerun in {way.rerun for way in self._chosen.values()}:
            if rerun is not self._chosen[layer].rerun:
                rerun.release()  # one at a time keeps to the budget
        give_back()
        return self._chosen[layer]

    @property
    def first(self) -> Rerun:
        """What is tried first."""
        if self._program.resists:
            return self._whole
        return self._fused if self.engine != BITWISE and not self._no_fusing else self._steps

    def _choose(self, layer: str) -> Way:
        why = self._program.resists
        if self.engine == VERIFIED:
            check_fast_bf16(self.bench.setting.device)
        if not why and self.engine != BITWISE:
            why = self._no_fusing or self._doubt(self._fused, layer, self.margins)
            if not why and self.engine == VERIFIED:
                return self._screened(layer)
            if not why:
                return Way(EXACT, self._fused, self.margins)
            if not self._doubt(self._steps, layer):
                return Way(f"{self.engine}, unfused", self._steps, note=f"not fused: {why}")
        why = why or self._doubt(self._steps, layer)
        if not why:
            return Way(self.engine, self._steps)
        return Way(f"{self.engine}, whole model", self._whole, note=f"whole model evaluated: {why}")

    def _screened(self, layer: str) -> Way:
        """The fused way, after a look in bfloat16 where the layer can be had in that."""
        way = Way(VERIFIED, self._fused, self.margins, screen=self._screen)
        trial = self._screen.low.trial(layer)
        return without_screen(way, trial) if isinstance(trial, str) else way

    def _doubt(self, rerun: Rerun, layer: str, margins: Margins | None = None) -> str:
        """Why a program is not to be used for a layer; "" when it may be."""
        trial = rerun.trial(layer)
        if isinstance(trial, str):
            return trial
        expected, found = trial
        if margins:
            scale = max(1.0, float(expected.abs().max()))
            if float((expected - found).abs().max()) <= _ROUNDING * scale:
                margins.learn(expected, found)
                return ""
        elif torch.allclose(expected, found, rtol=0, atol=0, equal_nan=True):
            return ""
        return "the captured program gives other outputs than the model"

    @cached_property
    def margins(self) -> Margins:
        """What is known of the fused program's rounding."""
        margins = Margins(BATCH)
        inputs = self.bench.samples.inputs[:_LEARNT]
        with torch.no_grad():
            own = self.bench.model(inputs)
            few = torch.cat([self.bench.model(some) for some in inputs.split(LEAST)])
            margins.learn(own, self._fused.program(inputs))
            margins.learn_few(own, few)
        return margins

    @cached_property
    def _no_fusing(self) -> str:
        """Why nothing is fused; "" when something is."""
        if self.bench.task.metric != ACCURACY:
            return f"{self.bench.task.metric.name} may change with rounding"
        try:
            _ = self.bench.dense  # where it is not finite: oneDNN's ReLU makes a number of NaN
            output = self._fused.program(self.bench.samples.inputs[:CHECKED])
            if output.dim() != 2 or output.shape[1] < 2:
                return "needs outputs of 2 classes or more"
        except (SparsityError, RuntimeError) as error:
            return str(error).splitlines()[0]
        return ""

    @cached_property
    def _program(self) -> Program:
        with torch.no_grad():
            return capture(self.bench.model, self.bench.samples.inputs[:CHECKED])

    @cached_property
    def _fused(self) -> Rescue:
        inputs = self.bench.samples.inputs[:CHECKED]
        # The screen keeps a bfloat16 copy of what a layer starts from: a third of all that is held.
        memory = self.memory * 2 // 3 if self.engine == VERIFIED else self.memory
        program = fuse(self._program, inputs)
        give_back()
        rerun = Rescue(self.bench, program, memory, cut=True)
        give_back()
        return rerun

    @cached_property
    def _screen(self) -> Screen:
        return Screen(self._fused)

    @cached_property
    def _steps(self) -> Rerun:
        return Rerun(self.bench, self._program, self.memory)

    @cached_property
    def _whole(self) -> Rerun:
        return Rerun(self.bench, whole(self.bench.model, "resists"), self.memory)


@lru_cache(maxsize=2)
def ways(bench: Workbench, engine: str, memory: int) -> Ways:
    """The ways of a workbench, kept for its next layer."""
    return Ways(bench, engine, memory)


def evaluated(bench: Workbench, way: Way, outputs: Sequence[Tensor], masks: Masks) -> Evaluation:
    """The outputs for all batches of the workbench under masks, judged as the way asks for."""
    if way.margins:
        joined = torch.cat(list(outputs)).cpu()
        settled, seen = way.margins.settled(joined, partial(way.rerun.own, masks))
        return judged(bench, settled, seen)
    return evaluate(
        _Replayed(outputs),
        bench.samples,
        loss=bench.task.loss,
        metric=bench.task.metric,
        batch_size=BATCH,
        device=bench.setting.device,
    )


def judged(bench: Workbench, outputs: Tensor, seen: Verdict) -> Evaluation:
    """What `evaluate` says of outputs whose verdict is known, where the metric is accuracy.

    NonFiniteError as there; labels were looked at with the dense outputs.
    """
    check_broken(bench.samples, seen.broken)
    targets = bench.samples.targets.cpu()
    values = (seen.predictions == targets).float()
    with torch.no_grad():
        losses = bench.task.loss(outputs, targets)
    return Evaluation(values, losses, seen.predictions)


class _Replayed(nn.Module):
    """Stands for a model whose outputs for the batches to come are known."""

    def __init__(self, outputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.outputs = iter(outputs)

    def forward(self, _inputs: Tensor) -> Tensor:
        return next(self.outputs)
