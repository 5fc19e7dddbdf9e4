"""Channels, kernels and attention heads: what a smaller dense layer could do without."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsity_core.structures.structure import STRUCTURES, Shape, Structure, needs_two
from sparsity_core.weights import Prunable


@STRUCTURES.register("out-channel")
@dataclass(frozen=True)
class OutChannel(Structure):
    """Whole filters or neurons: all weights (and the bias) of one output together.

    A zeroed channel is not yet a removed one: shapes stay, and a norm behind it still adds its
    shift. Source: Li et al. 2017, arXiv 1608.08710.
    """

    removes_outputs: ClassVar[bool] = True

    def fits(self, shape: Shape, groups: int = 1) -> str | None:  # noqa: ARG002
        """Needs two outputs or more."""
        return needs_two(shape[0], "output")

    def units(self, scores: Tensor) -> Tensor:
        """One unit an output."""
        return scores.flatten(1).mean(1)

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """Rows of the weight."""
        return chosen.reshape(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous()


@STRUCTURES.register("in-channel")
@dataclass(frozen=True)
class InChannel(Structure):
    """All weights that read one input channel together.

    Source: He et al. 2017, arXiv 1707.06168.
    """

    def fits(self, shape: Shape, groups: int = 1) -> str | None:
        """Needs two inputs or more, and no groups."""
        if groups > 1:
            return f"is a convolution in {groups} groups, where no filter sees all input channels"
        return needs_two(shape[1], "input")

    def units(self, scores: Tensor) -> Tensor:
        """One unit an input channel."""
        return scores.transpose(0, 1).flatten(1).mean(1)

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """Columns of the weight."""
        return chosen.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape).contiguous()


@STRUCTURES.register("kernel")
@dataclass(frozen=True)
class Kernel(Structure):
    """Whole kernels of a convolution: all positions between one input and one output channel.

    Source: Mao et al. 2017, arXiv 1705.08922 (there: kernel-level, 2-D).
    """

    def fits(self, shape: Shape, groups: int = 1) -> str | None:  # noqa: ARG002
        """Needs a convolution whose kernel has two positions or more."""
        if math.prod(shape[2:]) < 2:
            return "has kernels of one weight; choose unstructured, which is the same here"
        return needs_two(shape[0] * shape[1], "kernel")

    def units(self, scores: Tensor) -> Tensor:
        """(outputs, inputs): one unit a kernel."""
        return scores.flatten(2).mean(2)

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """Each kernel's choice at all of its positions."""
        return chosen.reshape(*chosen.shape, *[1] * (len(shape) - 2)).expand(shape).contiguous()


@STRUCTURES.register("attention-head")
@dataclass(frozen=True)
class AttentionHead(Structure):
    """Whole heads of attention: the rows of a head's queries, keys and values together.

    For weights that hold all three, one after the other, each head by head: nn.MultiheadAttention
    and a Linear called `qkv`. Without its values a head adds nothing. `heads` 0 takes the number
    from the model. Source: Michel et al. 2019, arXiv 1905.10650.
    """

    removes_outputs: ClassVar[bool] = True
    heads: int = 0

    def of(self, layer: Prunable) -> "AttentionHead":
        """With the number of heads that the model has."""
        return self if self.heads else AttentionHead(layer.heads)

    def fits(self, shape: Shape, groups: int = 1) -> str | None:  # noqa: ARG002
        """Needs two heads or more, whose rows are a third of the weight's."""
        if not self.heads:
            return "holds no queries, keys and values of heads that the model tells of"
        if len(shape) != 2 or shape[0] % (3 * self.heads):
            return f"needs a multiple of 3 x {self.heads} outputs, got {shape[0]}"
        return needs_two(self.heads, "head")

    def units(self, scores: Tensor) -> Tensor:
        """One unit a head."""
        return scores.reshape(3, self.heads, -1).mean((0, 2))

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """The head's rows in all three parts."""
        rows = chosen.reshape(1, self.heads, 1).expand(3, -1, shape[0] // (3 * self.heads))
        return rows.reshape(-1, 1).expand(shape).contiguous()
