"""Folded convolutions and linear layers in one call of oneDNN each, on the CPU.

Weights are packed once. The operators are those that torch.compile emits (torch.ops.mkldnn); they
are checked against the model before use, like everything that is captured.
"""

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_core.sweep import folded
from sparsity_core.sweep.folded import LAST, Activation

_mkldnn = torch.ops.mkldnn
_LARGE = 2**19  # weights


class Convolution(folded.Convolution):
    """As the folded one, in one call."""

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The output, channels last."""
        x = x.contiguous(memory_format=LAST)
        act = self.act
        if self._pixels:
            return self._of_pixels(x.permute(0, 2, 3, 1), other).permute(0, 3, 1, 2)
        if other is None:
            how = (act.name, act.scalars, act.algorithm)
            return _mkldnn._convolution_pointwise(x, self.packed, self.bias, *self._geometry, *how)
        other = other.contiguous(memory_format=LAST)
        then = ("add", 1.0, None if act.name == "none" else act.name, (), None)
        return _mkldnn._convolution_pointwise.binary(
            x, other, self.packed, self.bias, *self._geometry, *then
        )

    def _of_pixels(self, x: Tensor, other: Tensor | None) -> Tensor:
        """The product for pixels, channels as their last axis."""
        if other is None:
            how = (self.act.name, self.act.scalars, self.act.algorithm)
            return _mkldnn._linear_pointwise(x, self.packed, self.bias, *how)
        other = other.permute(0, 2, 3, 1).contiguous()
        return self.act(_mkldnn._linear_pointwise.binary(x, other, self.packed, self.bias, "add"))

    @cached_property
    def _pixels(self) -> bool:
        """Of single pixels it is a matrix product, a fifth faster as such for 128 channels."""
        conv = self.conv
        alone = conv.kernel_size == (1, 1) == conv.stride and conv.padding == (0, 0)
        return alone and conv.groups == 1

    @cached_property
    def _geometry(self) -> Any:
        conv = self.conv
        return conv.padding, conv.stride, conv.dilation, conv.groups

    def _pack(self) -> tuple[Tensor, Tensor | None]:
        weight, bias = self._folded()
        if self._pixels:
            return _mkldnn._reorder_linear_weight(weight.flatten(1), None), bias
        return _mkldnn._reorder_convolution_weight(weight, *self._geometry, None), bias


class Linear(folded.Linear):
    """As the folded one, in one call; a large one is not packed."""

    def __init__(
        self, linear: nn.Linear, act: Activation, dtype: torch.dtype = torch.float32
    ) -> None:
        # From 256 rows on a large one is as fast as it lies, and packed it would be there twice.
        self._lies = dtype == torch.float32 and linear.weight.numel() > _LARGE
        super().__init__(linear, act, dtype)

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The output; `other` is what is added to it."""
        if self.packed is None:
            return self.finished(F.linear(x, self.linear.weight, self.linear.bias), other)
        if other is not None:
            return _mkldnn._linear_pointwise.binary(x, other, self.packed, self._bias(), "add")
        how = (self.act.name, self.act.scalars, self.act.algorithm)
        return _mkldnn._linear_pointwise(x, self.packed, self._bias(), *how)

    def _repacked(self) -> Tensor | None:
        """In float32 as it lies: packing would take 0.1 ms."""
        return None if self.dtype == torch.float32 else self._pack()

    def _pack(self) -> Tensor | None:
        if self._lies:
            return None
        weight = self.linear.weight.detach().to(self.dtype)
        packed: Tensor = _mkldnn._reorder_linear_weight(weight, None)
        return packed
