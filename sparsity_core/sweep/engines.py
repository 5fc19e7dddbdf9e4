"""The engines of a sweep by name, and the one that is taken when nobody names one."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sparsity_core.errors import unknown
from sparsity_core.setting import Setting
from sparsity_core.sweep import decide, reference
from sparsity_core.sweep.engine import measure_bitwise, measure_exact, measure_verified
from sparsity_core.sweep.lowered import check_fast_bf16, slow_bf16
from sparsity_core.sweep.point import Result, SweepPoint
from sparsity_core.sweep.sampling import FromLayer
from sparsity_core.sweep.trials import Sampler
from sparsity_core.sweep.ways import BITWISE, EXACT, VERIFIED
from sparsity_core.task import Task
from sparsity_core.workbench import Workbench

# Task, setting, points, and bytes of memory for dense values between layers.
Engine = Callable[[Task, Setting, Sequence[SweepPoint], int], Iterator[Result]]

ENGINES: dict[str, Engine] = {
    "reference": reference.measure,
    BITWISE: measure_bitwise,
    EXACT: measure_exact,
    VERIFIED: measure_verified,
}
FAST = "fast"  # whichever is the usual one, for whoever plans
# How an engine does a point on some of the samples, within so much memory: for a question.
SAMPLERS: dict[str, Callable[[Workbench, int], Sampler]] = {
    "reference": decide.whole_model,
    BITWISE: partial(FromLayer, BITWISE),
    EXACT: partial(FromLayer, EXACT),
    VERIFIED: partial(FromLayer, VERIFIED),
}


def engine_named(name: str, device: str, early: bool) -> str:
    """The engine that a name stands for, on a device, for early answers or all samples.

    Raises SparsityError for an unknown name, and for an engine that this machine is too slow for.
    """
    if name == FAST:
        return _usual(device, early)
    if name not in ENGINES:
        raise unknown("engine", name, [*ENGINES, FAST])
    if early and name not in SAMPLERS:
        raise unknown("engine for early answers", name, SAMPLERS)
    if name == VERIFIED:
        check_fast_bf16(device)
    return name


def _usual(device: str, early: bool) -> str:
    """For early answers `verified`, where the CPU has fast bfloat16.

    As many samples then take half the time, and their losses are estimates in any case.
    """
    return VERIFIED if early and device == "cpu" and not slow_bf16(device) else EXACT
