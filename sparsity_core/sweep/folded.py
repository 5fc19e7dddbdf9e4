"""Convolutions and linear layers with what follows them as one step, on any device.

The batch norm is folded into the weights:
w' = w g / sqrt(v + e),  b' = (b - m) g / sqrt(v + e) + shift.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAST = torch.channels_last


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
        # A GPU's float32 convolutions (no TF32) want channels first: ResNet-20 takes 0.7 of the
        # time on an H200.
        first = conv.weight.is_cuda and dtype == torch.float32
        self.layout = torch.contiguous_format if first else LAST
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
        """The output, in the layout of the step."""
        x, conv = x.contiguous(memory_format=self.layout), self.conv
        geometry: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)
        product = F.conv2d(x, self.packed, self.bias, *geometry)
        return self.act(product if other is None else product.add_(other))

    def lowered(self) -> "Convolution":
        """The same in bfloat16."""
        return type(self)(self.conv, self.norm, self.act, torch.bfloat16)

    def blanked(self, dense: Tensor) -> Tensor:
        """The output without `other`, from the dense one: where all weights are zero, the bias."""
        bias = dense.new_zeros(dense.shape[1]) if self.bias is None else self.bias.clone()
        bias, alive = bias.to(self.dtype), self.conv.weight.flatten(1).any(1).to(self.dtype)
        # One whole image each: numbers of one channel alone are too few for a vector.
        factor, constant = (
            t.view(1, -1, 1, 1).expand(1, *dense.shape[1:]).contiguous(memory_format=self.layout)
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

    def _folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in the step's layout and dtype."""
        weight, bias = self.conv.weight.detach(), self.conv.bias
        bias = None if bias is None else bias.detach().clone()
        if self.scale is not None and self.shift is not None:
            weight = weight * self.scale.view(-1, 1, 1, 1)
            bias = self.shift if bias is None else self.shift + bias * self.scale
        weight = weight.to(self.dtype).contiguous(memory_format=self.layout)
        return weight, None if bias is None else bias.to(self.dtype)

    def _pack(self) -> tuple[Tensor, Tensor | None]:
        return self._folded()


class Linear:
    """A linear layer with its activation or sum."""

    def __init__(
        self, linear: nn.Linear, act: Activation, dtype: torch.dtype = torch.float32
    ) -> None:
        self.linear, self.act, self.dtype = linear, act, dtype
        self.packed: Tensor | None = self._pack()

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The output; `other` is what is added to it."""
        assert self.packed is not None
        return self.finished(F.linear(x, self.packed, self._bias()), other)

    def finished(self, product: Tensor, other: Tensor | None = None) -> Tensor:
        """The output from the product with its bias, in whose place it may come."""
        return self.act(product) if other is None else product.add_(other)

    def blanked(self, dense: Tensor) -> Tensor:
        """The output from the dense one: where all weights are zero, the bias."""
        weight, bias = self.linear.weight, self._bias()
        constant = dense.new_zeros(len(weight)) if bias is None else bias.clone()
        return torch.where(weight.any(1), dense, self.act(constant))

    def lowered(self) -> "Linear":
        """The same in bfloat16."""
        return type(self)(self.linear, self.act, torch.bfloat16)

    @contextmanager
    def adapted(self) -> Iterator[None]:
        """With the weights of the module as they are now."""
        dense = self.packed
        self.packed = self._repacked()
        try:
            yield
        finally:
            self.packed = dense

    def _bias(self) -> Tensor | None:
        bias = self.linear.bias
        return None if bias is None else bias.detach().to(self.dtype)

    def _repacked(self) -> Tensor | None:
        return self._pack()

    def _pack(self) -> Tensor | None:
        return self.linear.weight.detach().to(self.dtype)


def _same(x: Tensor) -> Tensor:
    return x
