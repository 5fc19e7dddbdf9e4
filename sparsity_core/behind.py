"""What may stand right behind a layer, by the operation that torch runs for it."""

from dataclasses import dataclass
from typing import Any

BATCH_NORMS = {
    "_batch_norm_no_update",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "native_batch_norm",
}
_ALWAYS_FLAT_AT_ZERO = {"hardshrink", "hardsigmoid", "hardswish", "relu", "softshrink"}
_FLAT_AT = {"clamp": 1, "clamp_min": 1, "hardtanh": 1, "threshold": 2}  # at which argument
_NEVER_FLAT = {
    "_prelu_kernel",
    "celu",
    "elu",
    "gelu",
    "leaky_relu",
    "mish",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
}


@dataclass(frozen=True)
class Step:
    """A batch norm or an activation behind a layer."""

    operation: str  # torch's name for it, such as native_batch_norm or relu
    norms: bool
    scale: str | None = None  # the name of a batch norm's gamma, where it has one
    has_zeros: bool = False  # is it exactly zero for a whole range of inputs?


def activation(operation: str, args: Any) -> Step | None:
    """The activation that an operation with these arguments is; None where it is none."""
    if operation in _ALWAYS_FLAT_AT_ZERO:
        return Step(operation, norms=False, has_zeros=True)
    if operation in _FLAT_AT:
        bound = args[_FLAT_AT[operation]]
        flat = isinstance(bound, int | float) and bound == 0
        return Step(operation, norms=False, has_zeros=flat)
    return Step(operation, norms=False) if operation in _NEVER_FLAT else None
