"""What the operators of ONNX compute, written with torch; one function each, by operator name.

Each takes its inputs in ONNX's order (None where one is left out) and its attributes by name. What
ONNX gives as a tensor of whole numbers, such as the target of Reshape, comes as a list when it is
known beforehand. Source: onnx.ai/onnx/operators.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.errors import SparsityError

Operator = Callable[..., Any]
OPERATORS: dict[str, Operator] = {}

_LARGEST = 1 << 28  # numbers that one value may have: a few bytes can ask for all memory
_DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32,
    7: torch.int64, 9: torch.bool, 10: torch.float32, 11: torch.float32, 16: torch.float32,
}  # fmt: skip


def operator(*names: str) -> Callable[[Operator], Operator]:
    """List a function under the operators' names."""

    def add(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return add


def numbers(values: Any) -> list[Any]:
    """A list of Python numbers; a tensor of them is read."""
    return values.tolist() if isinstance(values, Tensor) else list(values)


def checked(shape: Sequence[int]) -> list[int]:
    """A shape that is to be made; raises SparsityError when it is absurd."""
    if math.prod(shape) > _LARGEST or any(size < 0 for size in shape):
        raise SparsityError(f"a value of shape {list(shape)} is asked for, {_LARGEST} at most")
    return list(shape)


def number(value: Any, default: Any = None) -> Any:
    """A Python number, or the default where none is given."""
    if value is None:
        return default
    return value.item() if isinstance(value, Tensor) else value


_PLAIN: dict[str, Operator] = {
    "Identity": lambda x: x,
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Pow": lambda a, b: a**b,
    "Neg": lambda x: -x,
    "Abs": torch.abs,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Exp": torch.exp,
    "Log": torch.log,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Mish": F.mish,
    "HardSwish": F.hardswish,
    "MatMul": torch.matmul,
    "Equal": lambda a, b: a == b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "And": lambda a, b: a & b,
    "Or": lambda a, b: a | b,
    "Not": lambda x: ~x,
    "Where": torch.where,
    "IsNaN": torch.isnan,
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda x: x.amax(tuple(range(2, x.dim())), keepdim=True),
}
OPERATORS.update(_PLAIN)


@operator("Div")
def _divide(a: Tensor, b: Any) -> Tensor:
    whole = isinstance(a, Tensor) and not a.is_floating_point()
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


@operator("Sum")
def _sum(*values: Tensor) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*values)).sum(0)


@operator("Max")
def _max(first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first = torch.maximum(first, other)
    return first


@operator("Min")
def _min(first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first = torch.minimum(first, other)
    return first


@operator("LeakyRelu")
def _leaky(x: Tensor, alpha: float = 0.01) -> Tensor:
    return F.leaky_relu(x, alpha)


@operator("Elu")
def _elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return F.elu(x, alpha)


@operator("PRelu")
def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


@operator("HardSigmoid")
def _hard_sigmoid(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


@operator("Gelu")
def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


@operator("Softmax")
def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(axis)


@operator("LogSoftmax")
def _log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.log_softmax(axis)


@operator("Clip")
def _clip(x: Tensor, low: Any = None, high: Any = None, **old: float) -> Tensor:
    return x.clamp(number(low, old.get("min")), number(high, old.get("max")))


@operator("Cast")
def _cast(x: Tensor, to: int, **_: Any) -> Tensor:
    if to not in _DTYPES:
        raise SparsityError(f"Cast to the type {to} of ONNX is not known here")
    return x.to(_DTYPES[to])


@operator("CastLike")
def _cast_like(x: Tensor, other: Tensor, **_: Any) -> Tensor:
    return x.to(other.dtype)


@operator("Dropout")
def _dropout(x: Tensor, *_rates: Any, **_: Any) -> Tensor:
    return x  # of evaluation


@operator("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2")
def _reduce(
    x: Tensor, axes: Any = None, keepdims: int = 1, kind: str = "", noop_with_empty_axes: int = 0
) -> Tensor:
    over = tuple(numbers(axes)) if axes is not None else ()
    if not over and noop_with_empty_axes:
        return x
    over = over or tuple(range(x.dim()))
    functions: dict[str, Operator] = {
        "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax,
        "ReduceMin": torch.amin, "ReduceL2": torch.linalg.vector_norm,
    }  # fmt: skip
    return functions[kind](x, dim=over, keepdim=bool(keepdims))
