"""A linear layer that holds its living weights alone, forward and backward, on a CPU.

All three products go over the batch for each living weight, so inputs are kept with the batch
last: neighbouring numbers are neighbouring samples, whatever the mask.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.compiled import compiled

Ints = NDArray[np.int32]


class SparseLinear(nn.Module):
    """As nn.Linear, with `values` (nnz,) in the order of rows, then columns.

    `starts` (outputs + 1,) says where a row begins, `columns` (nnz,) which input a value reads.
    """

    starts: Tensor
    columns: Tensor

    def __init__(self, weight: Tensor, mask: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        self.values = nn.Parameter(torch.empty(0))
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.register_buffer("starts", torch.empty(0, dtype=torch.int32))
        self.register_buffer("columns", torch.empty(0, dtype=torch.int32))
        self.watched = False  # does the next backward keep what `dense_gradient` needs?
        self._seen: tuple[Tensor, Tensor] | None = None
        self.take_(mask, weight.detach()[mask])

    def take_(self, mask: Tensor, values: Tensor) -> None:
        """Another mask, with its values in order."""
        counts = mask.sum(1)
        self.starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
        self.columns = mask.nonzero()[:, 1].int()
        self.values.data = values.clone()
        self.values.grad = None

    def mask(self) -> Tensor:
        """True where a weight lives, (outputs, inputs); made anew at each call."""
        found = torch.zeros(self.shape, dtype=torch.bool)
        found[self._rows(), self.columns.long()] = True
        return found

    def dense(self, values: Tensor | None = None) -> Tensor:
        """The weight as a matrix, or others in the same places."""
        found = torch.zeros(self.shape)
        found[self._rows(), self.columns.long()] = (
            self.values.detach() if values is None else values
        )
        return found

    def dense_gradient(self) -> Tensor:
        """The gradient by every weight, dead ones too, from the last watched backward; once."""
        assert self._seen is not None
        by_output, by_input = self._seen
        self._seen = None
        return by_output @ by_input.t()

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            raise SparsityError(
                f"a sparse layer takes float32 on the cpu, got {x.dtype}, {x.device}"
            )
        rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        y = _Product.apply(rows, self.values, self)
        y = y if self.bias is None else y + self.bias
        return y.reshape(*x.shape[:-1], self.shape[0])

    def _rows(self) -> Tensor:
        return torch.arange(self.shape[0]).repeat_interleave(self.starts.diff().long())


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, layer: SparseLinear) -> Tensor:
        by_input = x.detach().t().contiguous()  # (inputs, batch)
        by_output = torch.zeros(layer.shape[0], len(x))
        _forward(by_input.numpy(), by_output.numpy(), values.detach().numpy(), *_places(layer))
        ctx.layer, ctx.by_input = layer, by_input
        ctx.save_for_backward(values)
        return by_output.t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        layer, by_input = ctx.layer, ctx.by_input
        (values,) = ctx.saved_tensors
        by_output = gradients[0].t().contiguous()
        if layer.watched:
            layer._seen = by_output, by_input
        of_x = of_values = None
        if ctx.needs_input_grad[0]:
            of_input = torch.zeros_like(by_input)
            _backward(of_input.numpy(), by_output.numpy(), values.numpy(), *_places(layer))
            of_x = of_input.t()
        if ctx.needs_input_grad[1]:
            of_values = torch.empty_like(values)
            _by_values(by_input.numpy(), by_output.numpy(), of_values.numpy(), *_places(layer))
        return of_x, of_values, None


def _places(layer: SparseLinear) -> tuple[Ints, Ints]:
    return layer.starts.numpy(), layer.columns.numpy()


@compiled
def _forward(x, y, values, starts, columns):  # type: ignore[no-untyped-def]
    for row in range(len(starts) - 1):
        target = y[row]
        for place in range(starts[row], starts[row + 1]):
            source, value = x[columns[place]], values[place]
            for i in range(target.shape[0]):
                target[i] += value * source[i]


@compiled
def _backward(x, y, values, starts, columns):  # type: ignore[no-untyped-def]
    for row in range(len(starts) - 1):
        source = y[row]
        for place in range(starts[row], starts[row + 1]):
            target, value = x[columns[place]], values[place]
            for i in range(source.shape[0]):
                target[i] += value * source[i]


@compiled
def _by_values(x, y, values, starts, columns):  # type: ignore[no-untyped-def]
    for row in range(len(starts) - 1):
        one = y[row]
        for place in range(starts[row], starts[row + 1]):
            other = x[columns[place]]
            # Eight sums: the compiler may not reorder one by itself, and so would go number by
            # number.
            a = b = c = d = e = f = g = h = np.float32(0)
            whole = one.shape[0] // 8 * 8
            for i in range(0, whole, 8):
                a += one[i] * other[i]
                b += one[i + 1] * other[i + 1]
                c += one[i + 2] * other[i + 2]
                d += one[i + 3] * other[i + 3]
                e += one[i + 4] * other[i + 4]
                f += one[i + 5] * other[i + 5]
                g += one[i + 6] * other[i + 6]
                h += one[i + 7] * other[i + 7]
            for i in range(whole, one.shape[0]):
                a += one[i] * other[i]
            values[place] = ((a + b) + (c + d)) + ((e + f) + (g + h))
