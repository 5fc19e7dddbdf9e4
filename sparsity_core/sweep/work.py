"""How much work each point of a sweep is, so that the time left can be foretold."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.sweep.point import SweepPoint
from sparsity_core.trace import SeenByDynamo, Use, eval_mode, watch
from sparsity_core.weights import Prunable

_RUNS = 5
_SAMPLES, _SECONDS = 32, 0.1  # of a run: so many, or as many as take so long
# What is done once for a layer, above all its trial, takes as long as so many samples in the whole
# model: 58 to 78 on LeNet-5, two MobileNets and ResNet-20.
_ONCE = 72


@dataclass(frozen=True)
class Speed:
    """Seconds for one sample, by the model as it is: how points compare, not what they take."""

    whole: float
    behind: Mapping[str, float]  # of each layer: itself and all that runs after it


def speed_of(model: nn.Module, inputs: Tensor) -> Speed:
    """Measured with the first few of some inputs (N, ...), the best of a few runs.

    Multiply-adds compare layers less well: where channels are few, each takes twice as long.
    """
    first = _timed(model, inputs[:1]).whole
    some = inputs[: max(1, min(_SAMPLES, round(_SECONDS / first)))]
    runs = [_timed(model, some) for _ in range(_RUNS)]
    behind = {name: min(run.behind[name] for run in runs) for name in runs[0].behind}
    return Speed(min(run.whole for run in runs), behind)


def work_of(plan: SweepPlan, speed: Speed, layers: Mapping[str, Prunable]) -> dict[str, float]:
    """Seconds at that speed by point id: of the layer and all after it, on all samples.

    The whole model's with the engine `reference`; nothing for points that will be skipped. Early
    answers take the same for each sample, but how many samples nobody knows.
    """
    samples, whole = plan.setting.samples, speed.whole
    once = 0.0 if plan.engine == "reference" else _ONCE * whole / len(plan.sparsities)

    def work(point: SweepPoint) -> float:
        layer, structure = layers[point.layer], point.structure
        unfit = structure.of(layer).fits(layer.shape, layer.groups)
        if unfit or structure.refuses(point.sparsity) or point.layer not in speed.behind:
            return 0.0
        each = whole if plan.engine == "reference" else speed.behind[point.layer]
        return samples * each + once

    return {point.id: work(point) for point in plan.points()}


def _timed(model: nn.Module, inputs: Tensor) -> Speed:
    """One run."""
    starts: dict[str, float] = {}
    clock = _Clock()

    def seen(use: Use) -> None:
        starts.setdefault(use.name, clock.read)

    # Inside `watch`, so that the clock is read before the product that this speaks of.
    with eval_mode(model), torch.no_grad(), watch(model, seen), clock:
        began = time.perf_counter()
        model(inputs)
        ended = time.perf_counter()
    behind = {name: (ended - start) / len(inputs) for name, start in starts.items()}
    return Speed((ended - began) / len(inputs), behind)


class _Clock(SeenByDynamo):
    """Knows when the last operator began."""

    read = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.read = time.perf_counter()
        return func(*args, **(kwargs or {}))
