"""The operators of ONNX that own weights, as torch's modules; and pooling, as torch's functions."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.intake.onnx_ops import operator

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def convolution(weight: Tensor, bias: Tensor | None, attributes: dict[str, Any]) -> nn.Module:
    """Conv: torch's own, with the padding in front where it is not the same on both sides."""
    axes = weight.dim() - 2
    if axes not in _CONVOLUTIONS:
        raise SparsityError(f"Conv over {axes} axes is not known here")
    before, after = padding_of(attributes, axes, weight.shape[2:])
    groups = attributes.get("group", 1)
    made = _CONVOLUTIONS[axes](
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        stride=tuple(attributes.get("strides", [1] * axes)),  # type: ignore[arg-type]
        padding=tuple(before) if before == after else 0,  # type: ignore[arg-type]
        dilation=tuple(attributes.get("dilations", [1] * axes)),  # type: ignore[arg-type]
        groups=groups,
        bias=bias is not None,
        device="meta",
    )
    made.weight = nn.Parameter(weight)
    if bias is not None:
        made.bias = nn.Parameter(bias)
    return made if before == after else Padded(made, _sides(before, after))


class Padded(nn.Module):
    """A convolution with other padding before than after; its weight keeps its own name."""

    def __init__(self, convolution: nn.Module, widths: Sequence[int]) -> None:
        super().__init__()
        self.convolution = convolution
        self.widths = list(widths)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, outputs, ...)."""
        padded: Tensor = self.convolution(F.pad(x, self.widths))
        return padded


def linear(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Gemm or MatMul with a weight (outputs, inputs)."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight)
    if bias is not None:
        made.bias = nn.Parameter(bias.expand(weight.shape[0]).clone())
    return made


def batch_norm(tensors: Sequence[Tensor], attributes: dict[str, Any]) -> nn.Module:
    """BatchNormalization of evaluation: scale, bias, mean, variance; any number of axes."""
    scale, bias, mean, variance = tensors
    made = BatchNorm(len(scale), eps=attributes.get("epsilon", 1e-5))
    made.weight, made.bias = nn.Parameter(scale), nn.Parameter(bias)
    made.running_mean, made.running_var = mean.clone(), variance.clone()
    return made


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Torch's, whatever the number of axes."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any will do."""


def padding_of(
    attributes: dict[str, Any], axes: int, kernel: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after on each axis."""
    automatic = attributes.get("auto_pad", "NOTSET")
    if automatic == "VALID":
        return [0] * axes, [0] * axes
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        if set(attributes.get("strides", [1])) != {1}:
            raise SparsityError("auto_pad SAME with a stride depends on the size; export with pads")
        gaps = attributes.get("dilations", [1] * axes)
        whole = [gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True)]
        small, large = [n // 2 for n in whole], [n - n // 2 for n in whole]
        return (small, large) if automatic == "SAME_UPPER" else (large, small)
    pads = list(attributes.get("pads", [0] * (2 * axes)))
    return pads[:axes], pads[axes:]


def _sides(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Padding in the order of F.pad: the last axis first."""
    return [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]


@operator("MaxPool", "AveragePool")
def _pool(x: Tensor, kind: str = "", **attributes: Any) -> Tensor:
    kernel = list(attributes["kernel_shape"])
    before, after = padding_of(attributes, len(kernel), kernel)
    if before != after:
        if kind == "AveragePool" and not attributes.get("count_include_pad"):
            raise SparsityError("AveragePool with uneven padding is not known here")
        filler = -torch.inf if kind == "MaxPool" else 0.0
        x, before = F.pad(x, _sides(before, after), value=filler), [0] * len(kernel)
    options: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": list(attributes.get("strides", [1] * len(kernel))),
        "padding": before,
        "ceil_mode": bool(attributes.get("ceil_mode", 0)),
    }
    if kind == "MaxPool":
        pools = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
        gaps = list(attributes.get("dilations", [1] * len(kernel)))
        return pools[len(kernel)](x, dilation=gaps, **options)
    averages: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
    included = bool(attributes.get("count_include_pad", 0))
    found: Tensor = averages[len(kernel)](x, count_include_pad=included, **options)
    return found


@operator("LayerNormalization")
def _layer_norm(
    x: Tensor, scale: Tensor, bias: Any = None, axis: int = -1, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    return F.layer_norm(x, list(x.shape[axis:]), scale, bias, epsilon)


@operator("RMSNormalization")
def _rms_norm(x: Tensor, scale: Tensor, axis: int = -1, epsilon: float = 1e-5, **_: Any) -> Tensor:
    return F.rms_norm(x, list(x.shape[axis:]), scale, epsilon)


@operator("InstanceNormalization")
def _instance_norm(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


@operator("GroupNormalization")
def _group_norm(
    x: Tensor, scale: Tensor, bias: Tensor, num_groups: int = 1, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    return F.group_norm(x, num_groups, scale, bias, epsilon)
