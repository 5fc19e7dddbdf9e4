"""Operations that leave channels apart: which they are, and where the channels lie afterwards."""

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from sparsity_core.compress.channels import Flow
from sparsity_core.sweep.program import Step

# By the names of modules, functions and methods alike. Each makes of a channel that is constant
# one that is constant, save at borders, which are looked at.
PER_CHANNEL = frozenset(
    """
    ReLU ReLU6 LeakyReLU ELU CELU SELU GELU SiLU Mish Sigmoid Tanh Hardtanh Hardswish Hardsigmoid
    Softplus LogSigmoid Softsign Tanhshrink Hardshrink Softshrink Threshold PReLU Identity
    Dropout Dropout1d Dropout2d Dropout3d AlphaDropout
    MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d
    AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
    relu relu6 leaky_relu elu celu selu gelu silu mish sigmoid tanh hardtanh hardswish hardsigmoid
    softplus logsigmoid softsign tanhshrink hardshrink softshrink threshold clamp clamp_min
    clamp_max dropout dropout2d max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d
    contiguous clone detach float neg abs square sqrt exp
    """.split()
)
ELEMENTWISE = frozenset("add iadd sub isub mul imul truediv div".split())
_REDUCTIONS = frozenset("mean sum amax amin".split())


def name_of(step: Step) -> str:
    """The name of the function or method that a step calls."""
    call = step.call
    if isinstance(call, partial):
        return str(call.args[0]).rstrip("_") if isinstance(call.args[0], str) else ""
    return str(getattr(call, "__name__", type(call).__name__)).rstrip("_")


def moved_axis(name: str, step: Step, flow: Flow, given: Tensor, result: Tensor) -> int | None:
    """Where channels lie after an operation that moves or drops axes; None for any other."""
    rank = given.dim()
    arguments = [*step.args[1:], *step.kwargs.values()]
    if name in ("transpose", "swapaxes") and all(isinstance(a, int) for a in arguments):
        a, b = (axis % rank for axis in arguments)
        return {a: b, b: a}.get(flow.axis, flow.axis)
    if name == "permute":
        order = arguments[0] if isinstance(arguments[0], (tuple, list)) else arguments
        return [axis % rank for axis in order].index(flow.axis)
    if name in _REDUCTIONS:
        return _after_reduction(step, flow.axis, rank, result.dim())
    if name == "squeeze" and len(arguments) == 1 and isinstance(arguments[0], int):
        gone = arguments[0] % rank
        return None if gone == flow.axis else flow.axis - (gone < flow.axis < rank)
    return None


def _after_reduction(step: Step, axis: int, rank: int, rank_after: int) -> int | None:
    given = step.kwargs.get("dim", step.args[1] if len(step.args) > 1 else None)
    if given is None:
        return None
    dims = {d % rank for d in (given if isinstance(given, (tuple, list)) else [given])}
    if axis in dims:
        return None
    return axis if rank_after == rank else axis - sum(d < axis for d in dims)


def merged(before: Sequence[int], axis: int, after: Sequence[int]) -> tuple[int, int] | None:
    """Where channels lie after a reshape, and how often in a row each comes; None if they mix.

    Shapes before and after; a channel may be merged with the axes behind it, as a flatten does.
    """
    ahead, behind = math.prod(before[:axis]), math.prod(before[axis + 1 :])
    for place in range(len(after)):
        times, rest = divmod(after[place], before[axis])
        in_place = math.prod(after[:place]) == ahead and rest == 0 and times >= 1
        if in_place and times * math.prod(after[place + 1 :]) == behind:
            return place, times
    return None
