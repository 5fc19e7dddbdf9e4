"""Convolutions and linear layers with what follows them in one call of oneDNN, on the CPU.

Weights are packed once, with the batch norm folded in:
w' = w g / sqrt(v + e),  b' = (b - m) g / sqrt(v + e) + shift.
The operators are those that torch.compile emits (torch.ops.mkldnn); they are checked against the
model before use, like everything that is captured.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LAST = torch.channels_last
_mkldnn = torch.ops.mkldnn
_convolve = _mkldnn._convolution_pointwise
_multiply = _mkldnn._linear_pointwise
_LARGE = 2**19  # weights


@dataclass(frozen=True)
class Activation:
    """A function of single numbers, as oneDNN names it."""

    name: str = "none"
    scalars: tuple[float, ...] = ()
    algorithm: str = ""

    def __call__(self, x: Tensor) -> Tensor:
        """By torch, in place where it can."""
        if self.name == "gelu":
            return F.gelu(x, approximate=self.algorithm)
        if self.name == "hardtanh":
            return x.clamp_(*self.scalars)
        return {"none": _same, "relu": torch.relu_, "swish": F.silu}[self.name](x)


class Convolution:
    """A convolution with its norm, activation and sum; `other` is what is added before the last."""

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        act: Activation,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.conv, self.norm, self.act, self.dtype = conv, norm, act, dtype
        # Of single pixels it is a matrix product, a fifth faster as such for 128 channels.
        self.pixels = conv.kernel_size == (1, 1) == conv.stride and conv.groups == 1
        self.pixels &= conv.padding == (0, 0)
        self.geometry: Any = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.scale = self.shift = None
        if norm is not None:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            gain = 1.0 if norm.weight is None else norm.weight.detach().double()
            self.scale = gain * torch.rsqrt(norm.running_var.double() + norm.eps)
            self.shift = -norm.running_mean.double() * self.scale
            if norm.bias is not None:
                self.shift = self.shift + norm.bias.detach().double()
        self.packed, self.bias = self._pack()

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The output, channels last."""
        x = x.contiguous(memory_format=_LAST)
        act = self.act
        if self.pixels:
            return self._of_pixels(x.permute(0, 2, 3, 1), other).permute(0, 3, 1, 2)
        if other is None:
            how = (act.name, act.scalars, act.algorithm)
            return _convolve(x, self.packed, self.bias, *self.geometry, *how)
        other = other.contiguous(memory_format=_LAST)
        then = ("add", 1.0, None if act.name == "none" else act.name, (), None)
        return _convolve.binary(x, other, self.packed, self.bias, *self.geometry, *then)

    def _of_pixels(self, x: Tensor, other: Tensor | None) -> Tensor:
        """The product for pixels, channels as their last axis."""
        if other is None:
            how = (self.act.name, self.act.scalars, self.act.algorithm)
            return _multiply(x, self.packed, self.bias, *how)
        other = other.permute(0, 2, 3, 1).contiguous()
        return self.act(_multiply.binary(x, other, self.packed, self.bias, "add"))

    def lowered(self) -> "Convolution":
        """The same in bfloat16."""
        return Convolution(self.conv, self.norm, self.act, torch.bfloat16)

    def blanked(self, dense: Tensor) -> Tensor:
        """The output without `other`, from the dense one: where all weights are zero, the bias."""
        bias = torch.zeros(dense.shape[1]) if self.bias is None else self.bias.clone()
        bias, alive = bias.to(self.dtype), self.conv.weight.flatten(1).any(1).to(self.dtype)
        # One whole image each: numbers of one channel alone are too few for a vector.
        factor, constant = (
            t.view(1, -1, 1, 1).expand(1, *dense.shape[1:]).contiguous(memory_format=_LAST)
            for t in (alive, self.act(bias) * (1 - alive))
        )
        return torch.addcmul(constant, dense, factor)

    @contextmanager
    def adapted(self) -> Iterator[None]:
        """With the weights of the module as they are now."""
        dense = self.packed, self.bias
        self.packed, self.bias = self._pack()
        try:
            yield
        finally:
            self.packed, self.bias = dense

    def _pack(self) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.conv.weight.detach(), self.conv.bias
        bias = None if bias is None else bias.detach().clone()
        if self.scale is not None and self.shift is not None:
            weight = weight * self.scale.view(-1, 1, 1, 1)
            bias = self.shift if bias is None else self.shift + bias * self.scale
        weight = weight.to(self.dtype).contiguous(memory_format=_LAST)
        bias = None if bias is None else bias.to(self.dtype)
        if self.pixels:
            return _mkldnn._reorder_linear_weight(weight.flatten(1), None), bias
        return _mkldnn._reorder_convolution_weight(weight, *self.geometry, None), bias


class Linear:
    """A linear layer with its activation or sum."""

    def __init__(
        self, linear: nn.Linear, act: Activation, dtype: torch.dtype = torch.float32
    ) -> None:
        self.linear, self.act, self.dtype = linear, act, dtype
        # From 256 rows on a large one is as fast as it lies, and packed it would be there twice.
        large = dtype == torch.float32 and linear.weight.numel() > _LARGE
        self.packed: Tensor | None = None if large else self._pack()

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The output; `other` is what is added to it."""
        if self.packed is None:
            return self.finished(F.linear(x, self.linear.weight, self.linear.bias), other)
        bias = None if self.linear.bias is None else self.linear.bias.detach().to(self.dtype)
        if other is not None:
            return _multiply.binary(x, other, self.packed, bias, "add")
        how = (self.act.name, self.act.scalars, self.act.algorithm)
        return _multiply(x, self.packed, bias, *how)

    def finished(self, product: Tensor, other: Tensor | None = None) -> Tensor:
        """The output from the product with its bias, in whose place it may come."""
        return self.act(product) if other is None else product.add_(other)

    def blanked(self, dense: Tensor) -> Tensor:
        """The output from the dense one: where all weights are zero, the bias."""
        weight, own = self.linear.weight, self.linear.bias
        bias = torch.zeros(len(weight)) if own is None else own.detach().clone()
        return torch.where(weight.any(1), dense, self.act(bias.to(self.dtype)))

    def lowered(self) -> "Linear":
        """The same in bfloat16."""
        return Linear(self.linear, self.act, torch.bfloat16)

    @contextmanager
    def adapted(self) -> Iterator[None]:
        """With the weights of the module as they are now.

        In float32 not packed, which would take 0.1 ms.
        """
        dense = self.packed
        self.packed = None if self.dtype == torch.float32 else self._pack()
        try:
            yield
        finally:
            self.packed = dense

    def _pack(self) -> Tensor:
        weight = self.linear.weight.detach().to(self.dtype)
        packed: Tensor = _mkldnn._reorder_linear_weight(weight, None)
        return packed


def _same(x: Tensor) -> Tensor:
    return x
