"""The sparse formats that torch itself multiplies on a CPU."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.kernel import KERNELS, Kernel, Parts, Product, not_zero
from sparsity_core.structures import Block, Structure


def compressed(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Compressed sparse rows as torch holds them, of weights or of blocks (three axes).

    Without two warnings: that this is in beta, and in torch 2.11 that nothing is checked, which is.
    """
    layout = torch.sparse_csr if values.ndim == 1 else torch.sparse_bsr
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR|BSR|invariant)")
        return torch.sparse_compressed_tensor(
            starts, columns, values, shape, layout=layout, check_invariants=True
        )


@KERNELS.register("csr")
@dataclass(frozen=True)
class Csr(Kernel):
    """Compressed sparse rows with 32-bit indices: each weight with its column, row after row.

    Multiplied as weight x inputs, the fast way in torch: `F.linear` with 64-bit indices takes 3 to
    5 times as long. One row of inputs is a product with a vector.
    """

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Where each row begins, the columns, the values."""
        starts = torch.zeros(len(weight) + 1, dtype=torch.int32)
        starts[1:] = mask.sum(1).cumsum(0)
        return {
            "starts": starts,
            "columns": mask.nonzero()[:, 1].int(),
            "values": weight[mask],
        }

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values at their places."""
        counts = parts["starts"].long().diff()
        rows = torch.repeat_interleave(torch.arange(shape[0]), counts)
        weight = torch.zeros(shape, dtype=parts["values"].dtype)
        kept = torch.zeros(shape, dtype=torch.bool)
        places = (rows, parts["columns"].long())
        weight[places], kept[places] = parts["values"], True
        return weight, kept

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """Weight x inputs, transposed on both sides."""
        weight = compressed(parts["starts"], parts["columns"], parts["values"], shape)

        def run(x: Tensor) -> Tensor:
            # A vector takes 70 us where the general product takes 210.
            y = (weight @ x[0])[None] if len(x) == 1 else (weight @ x.T).T.contiguous()
            return y if bias is None else y.add_(bias)

        return run


@KERNELS.register("bsr")
@dataclass(frozen=True)
class Bsr(Kernel):
    """Compressed sparse rows of `rows` x `cols` blocks, each stored whole.

    Blocks as large as 32 x 32 suit torch best; a mask of single weights fills nearly all of them.
    """

    rows: int = 32
    cols: int = 32

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Needs multiples of the block."""
        if shape[0] % self.rows or shape[1] % self.cols:
            return f"needs multiples of {self.rows} x {self.cols}, got {shape[0]} x {shape[1]}"
        return None

    def pattern(self, sparsity: float) -> Structure:  # noqa: ARG002
        """Blocks of its own size."""
        return Block(self.rows, self.cols)

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Where each row of blocks begins, the columns of blocks, the blocks."""
        if (
            self.rows < 1
            or self.cols < 1
            or weight.shape[0] % self.rows
            or weight.shape[1] % self.cols
        ):
            raise SparsityError(
                f"bsr: blocks of {self.rows} x {self.cols} do not divide a weight of "
                f"{tuple(weight.shape)}; choose rows and cols that do"
            )
        kept = self._blocks(mask).flatten(2).any(2)
        starts = torch.zeros(len(kept) + 1, dtype=torch.int32)
        starts[1:] = kept.sum(1).cumsum(0)
        return {
            "starts": starts,
            "columns": kept.nonzero()[:, 1].int(),
            "blocks": self._blocks(weight)[kept].contiguous(),
        }

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Blocks at their places."""
        counts = parts["starts"].long().diff()
        block_rows = torch.repeat_interleave(torch.arange(shape[0] // self.rows), counts)
        places = (block_rows, parts["columns"].long())
        sizes = (shape[0] // self.rows, shape[1] // self.cols, self.rows, self.cols)
        blocks = torch.zeros(sizes, dtype=parts["blocks"].dtype)
        blocks[places] = parts["blocks"]
        weight = blocks.transpose(1, 2).reshape(shape)
        return weight, not_zero(weight)

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """Weight x inputs, transposed on both sides."""
        weight = compressed(parts["starts"], parts["columns"], parts["blocks"], shape)

        def run(x: Tensor) -> Tensor:
            y = (weight @ x.T.contiguous()).T.contiguous()
            return y if bias is None else y.add_(bias)

        return run

    def _blocks(self, matrix: Tensor) -> Tensor:
        return matrix.unflatten(1, (-1, self.cols)).unflatten(0, (-1, self.rows)).transpose(1, 2)
