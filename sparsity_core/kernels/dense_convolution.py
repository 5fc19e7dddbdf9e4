"""Dense convolutions: the rivals, in three layouts; and what all convolutions share."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.kernel import KERNELS, Kernel, Parts, Product, not_zero
from sparsity_core.structures import Structure

Pair = tuple[int, int]


@dataclass(frozen=True)
class Convolution(Kernel):
    """A 2-D convolution in one group; stride, padding and dilation as (down, across)."""

    rank: ClassVar[int] = 4
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def __post_init__(self) -> None:
        for name, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
            pair = tuple(getattr(self, name))
            if len(pair) != 2 or min(pair) < least:
                raise SparsityError(f"{name} {pair}: give two numbers of {least} or more")
            object.__setattr__(self, name, pair)  # files hold lists

    def output_size(self, shape: tuple[int, ...], image: Pair) -> Pair:
        """Height and width of the output; raises SparsityError where the kernel does not fit."""
        sizes = [
            (image[i] + 2 * self.padding[i] - self.dilation[i] * (shape[2 + i] - 1) - 1)
            // self.stride[i]
            + 1
            for i in range(2)
        ]
        if min(sizes) < 1:
            raise SparsityError(
                f"a kernel of {shape[2]} x {shape[3]} does not fit an image of "
                f"{image[0]} x {image[1]}"
            )
        return sizes[0], sizes[1]

    def check(self, x: Tensor, shape: tuple[int, ...]) -> None:
        """Raise SparsityError unless these are images for a weight of a shape."""
        if x.dtype is not torch.float32 or x.dim() != 4 or x.shape[1] != shape[1] or not x.is_cpu:
            raise SparsityError(
                f"{KERNELS.kind_of(self)} of shape {tuple(shape)} takes float32 images "
                f"(n, {shape[1]}, height, width) on the cpu, got {x.dtype} {tuple(x.shape)} on "
                f"{x.device}"
            )


class _DenseConvolution(Convolution):
    layout: ClassVar[torch.memory_format] = torch.contiguous_format

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        return {"weight": weight.contiguous(memory_format=self.layout)}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        weight = parts["weight"].reshape(shape).contiguous()
        return weight, not_zero(weight)

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        weight = parts["weight"].contiguous(memory_format=self.layout)
        geometry = (self.stride, self.padding, self.dilation)

        def run(x: Tensor) -> Tensor:
            self.check(x, shape)
            x = x.contiguous(memory_format=self.layout)
            return F.conv2d(x, weight, bias, *geometry).contiguous()

        return run


@KERNELS.register("dense-convolution")
@dataclass(frozen=True)
class DenseConvolution(_DenseConvolution):
    """torch's `F.conv2d` in float32, channels first."""


@KERNELS.register("dense-convolution-channels-last")
@dataclass(frozen=True)
class DenseConvolutionChannelsLast(_DenseConvolution):
    """The same with channels last, turned from and to channels first within the call."""

    layout: ClassVar[torch.memory_format] = torch.channels_last


@KERNELS.register("dense-convolution-onednn")
@dataclass(frozen=True)
class DenseConvolutionOneDnn(_DenseConvolution):
    """oneDNN's convolution with a weight laid out for it beforehand, as `torch.compile` freezes it.

    The best dense float32 for small images: 1.8 times `F.conv2d` for 512 channels of 7 x 7.
    """

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Needs a torch built with oneDNN."""
        return None if torch.backends.mkldnn.is_available() else "needs a torch with oneDNN"

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """One call; oneDNN chooses the layout for each size of images it meets."""
        weight = parts["weight"]
        layouts: dict[torch.Size, Tensor] = {}
        geometry = (self.padding, self.stride, self.dilation, 1)
        product = torch.ops.mkldnn._convolution_pointwise

        def run(x: Tensor) -> Tensor:
            self.check(x, shape)
            if x.shape not in layouts:
                prepare = torch.ops.mkldnn._reorder_convolution_weight
                layouts[x.shape] = prepare(weight, *geometry, list(x.shape))
            return product(x, layouts[x.shape], bias, *geometry, "none", [], "").contiguous()

        return run
