"""2:4 on the sparse tensor cores of NVIDIA's GPUs, through torch's semi-structured tensors."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.sparse import (
    SparseSemiStructuredTensor,
    SparseSemiStructuredTensorCUSPARSELT,
    SparseSemiStructuredTensorCUTLASS,
)

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.gpu import SIXTEEN_BITS, GpuKernel
from sparsity_core.kernels.gpu_timing import quickest
from sparsity_core.kernels.kernel import KERNELS, Parts, Product, not_zero
from sparsity_core.structures import NofM, Structure, Transposable

_FORMATS: dict[str, type[SparseSemiStructuredTensor]] = {
    "cusparselt": SparseSemiStructuredTensorCUSPARSELT,
    "cutlass": SparseSemiStructuredTensorCUTLASS,
}
_ROWS = 8  # of inputs: both libraries take multiples only, so that a single one is padded
_ALGORITHMS = 40  # as many as are asked for: cuSPARSELt 0.8 has 21 for bfloat16


@KERNELS.register("gpu-2:4")
@dataclass(frozen=True)
class SemiStructured(GpuKernel):
    """At most 2 of each 4 neighbouring inputs, on sparse tensor cores.

    `backend`: cusparselt, cutlass (GPUs before Hopper alone), or auto, which times both,
    cuSPARSELt with each of its algorithms, at the first call with each number of rows and takes the
    quickest. Fewer than 8 rows are padded to 8: a single sample gains nothing. Never dense behind
    your back: `sparsify(kernels="auto")` is what compares with dense. Half the values and 2 bits
    for the place of each. Source: Mishra et al. 2021, arXiv 2104.08378.
    """

    dtypes: ClassVar[tuple[str, ...]] = SIXTEEN_BITS
    capability: ClassVar[tuple[int, int]] = (8, 0)
    backend: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backend not in ("auto", *_FORMATS):
            raise SparsityError(
                f"backend {self.backend!r}: choose one of auto, {', '.join(_FORMATS)}"
            )

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:
        """Needs such a structure and multiples that a library takes: 16 x 16 or 32 x 64."""
        two_of_four = isinstance(structure, NofM | Transposable) and (
            4 % structure.m == 0 and 2 * structure.n <= structure.m
        )
        if not two_of_four:
            return "takes masks of 2:4 (or 1:4, 1:2)"
        return self._misfit(shape)

    def pattern(self, sparsity: float) -> Structure:  # noqa: ARG002
        """2:4, whatever is asked for."""
        return NofM(2, 4)

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """`values` (outputs, inputs / 2); `places` (outputs, inputs / 8): 2 bits for each value.

        A group that keeps fewer than 2 stores zeros.
        """
        shape = tuple(weight.shape)
        if reason := self._misfit(shape):
            raise SparsityError(f"gpu-2:4 {reason}")
        kept = mask.unflatten(1, (-1, 4))
        counts = kept.sum(2)
        if bool((counts > 2).any()):
            row, group = (counts > 2).nonzero()[0].tolist()
            raise SparsityError(
                f"gpu-2:4: output {row} keeps {int(counts[row, group])} of inputs {4 * group} to "
                f"{4 * group + 3}; prune with 2:4, or choose gpu-unstructured"
            )
        best = kept.to(torch.uint8).sort(dim=2, descending=True, stable=True).indices
        places = best[..., :2].sort(dim=2).values
        values = weight.unflatten(1, (-1, 4)).gather(2, places).flatten(1)
        quarters = places.flatten(1).unflatten(1, (-1, 4))
        packed = (quarters << torch.tensor([0, 2, 4, 6])).sum(2)
        return {"values": values.to(self.stores), "places": packed.to(torch.uint8)}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values at their places."""
        values, packed = parts["values"], parts["places"]
        shifts = torch.tensor([0, 2, 4, 6], device=packed.device)
        places = (packed[..., None].long() >> shifts & 3).flatten(1).unflatten(1, (-1, 2))
        groups = values.new_zeros(shape[0], shape[1] // 4, 4)
        groups.scatter_(2, places, values.unflatten(1, (-1, 2)))
        weight = groups.flatten(1)
        return weight, not_zero(weight)

    def product(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """By the backend asked for, or the quicker for each number of rows."""
        weight = self.decode(parts, shape)[0]
        return quickest(
            {name: lambda name=name: _PRODUCTS[name](weight, bias) for name in self.backends(shape)}  # type: ignore[misc]
        )

    def backends(self, shape: tuple[int, ...]) -> list[str]:
        """Those asked for that take the shape."""
        asked = list(_FORMATS) if self.backend == "auto" else [self.backend]
        sides = {name: self._multiples(name) for name in asked}
        return [n for n in asked if not (shape[0] % sides[n][0] or shape[1] % sides[n][1])]

    def _multiples(self, backend: str) -> tuple[int, int]:
        limits = _FORMATS[backend]._DTYPE_SHAPE_CONSTRAINTS[self.stores]
        return limits.sparse_min_rows, limits.sparse_min_cols

    def _misfit(self, shape: tuple[int, ...]) -> str | None:
        if self.backends(shape):
            return None
        rows, cols = self._multiples("cusparselt" if self.backend == "auto" else self.backend)
        return f"needs multiples of {rows} x {cols}, got {shape[0]} x {shape[1]}"


def _cusparselt(weight: Tensor, bias: Tensor | None) -> Product:
    """With each algorithm tried for each number of rows: an H200 has 21, up to 2.4 times apart.

    torch has deprecated its call of cuSPARSELt's own search, which found the same one there.
    """
    packed = torch._cslt_compress(weight)
    return quickest(
        {f"algorithm {n}": lambda n=n: _algorithm(packed, bias, n) for n in range(_ALGORITHMS)}  # type: ignore[misc]
    )


def _algorithm(packed: Tensor, bias: Tensor | None, number: int) -> Product:
    def run(x: Tensor) -> Tensor:
        y = torch._cslt_sparse_mm(
            packed, eights(x).T, bias=bias, transpose_result=True, alg_id=number
        )
        return y[: len(x)]

    return run


def _cutlass(weight: Tensor, bias: Tensor | None) -> Product:
    """The outputs come transposed, and are turned."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The PyTorch API of SparseSemiStructuredTensor")
        sparse = SparseSemiStructuredTensorCUTLASS.from_dense(weight)
    packed, meta = sparse.packed, sparse.meta
    assert packed is not None
    assert meta is not None

    def run(x: Tensor) -> Tensor:
        inputs = eights(x).T
        if bias is None:
            y = torch._sparse_semi_structured_mm(packed, meta, inputs)
        else:
            y = torch._sparse_semi_structured_addmm(bias, packed, meta, inputs)
        return y[:, : len(x)].T.contiguous()

    return run


_PRODUCTS = {"cusparselt": _cusparselt, "cutlass": _cutlass}


def eights(x: Tensor) -> Tensor:
    """Rows with zeros added up to a multiple of 8, in one piece of memory."""
    left = -len(x) % _ROWS
    return (F.pad(x, (0, 0, 0, left)) if left else x).contiguous()  # by none, pad copies
