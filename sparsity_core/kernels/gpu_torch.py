"""What torch itself multiplies on a GPU: dense, compressed rows, compressed rows of blocks."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.gpu import GpuKernel
from sparsity_core.kernels.kernel import KERNELS, Parts, Product, not_zero
from sparsity_core.kernels.torch_sparse import Bsr, Csr, compressed
from sparsity_core.structures import Block, Structure


@KERNELS.register("gpu-dense")
@dataclass(frozen=True)
class GpuDense(GpuKernel):
    """torch's `F.linear` on a GPU: the rival. float32 uses TF32 only where torch is told so.

    Not measured on a GPU.
    """

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """The masked weight as it is."""
        return {"weight": weight.to(self.stores)}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The same."""
        weight = parts["weight"].reshape(shape)
        return weight, not_zero(weight)

    def product(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:  # noqa: ARG002
        """One call."""
        weight = parts["weight"]
        return lambda x: F.linear(x, weight, bias)


@KERNELS.register("gpu-csr")
@dataclass(frozen=True)
class GpuCsr(GpuKernel):
    """Compressed sparse rows with 32-bit indices, multiplied by cuSPARSE.

    Not measured on a GPU.
    """

    dtype: str = "float32"

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """As on the CPU."""
        return Csr().encode(weight.to(self.stores), mask)

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """As on the CPU."""
        return Csr().decode(parts, shape)

    def product(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """Weight x inputs; the transpose of the outputs is paid for."""
        weight = compressed(parts["starts"], parts["columns"], parts["values"], shape)

        def run(x: Tensor) -> Tensor:
            y = (weight @ x.T).T.contiguous()
            return y if bias is None else y.add_(bias)

        return run


@KERNELS.register("gpu-bsr")
@dataclass(frozen=True)
class GpuBsr(GpuKernel):
    """Compressed sparse rows of square blocks, by torch's own Triton kernel.

    torch's table of settings is for one GPU (A100) alone, so they are options here: `columns` of
    inputs at a time, `warps` and `stages` of the pipeline. Not measured on a GPU.
    """

    side: int = 64
    columns: int = 64
    warps: int = 4
    stages: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("side", "columns"):
            value = getattr(self, name)
            if value < 16 or value & (value - 1):
                raise SparsityError(f"{name}={value}: needs a power of two, 16 or more")

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:
        """Needs multiples of the block."""
        return self._blocks.refuses(structure, shape)

    def pattern(self, sparsity: float) -> Structure:  # noqa: ARG002
        """Blocks of its own size."""
        return Block(self.side, self.side)

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """As on the CPU."""
        return self._blocks.encode(weight.to(self.stores), mask)

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """As on the CPU."""
        return self._blocks.decode(parts, shape)

    def product(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """The rows of inputs are padded to a multiple of what is taken at a time."""
        from torch.sparse._triton_ops import bsr_dense_addmm

        weight = compressed(parts["starts"], parts["columns"], parts["blocks"], shape)
        added = (parts["blocks"].new_zeros(shape[0]) if bias is None else bias)[:, None]

        def run(x: Tensor) -> Tensor:
            rows = len(x)
            wide = min(self.columns, max(16, 1 << (rows - 1).bit_length()))
            padded = F.pad(x, (0, 0, 0, -rows % wide)).contiguous()
            settings = {
                "SPLIT_N": len(padded) // wide,
                "GROUP_SIZE_ROW": 4,
                "num_warps": self.warps,
                "num_stages": self.stages,
            }
            start = added.expand(-1, len(padded))
            y = bsr_dense_addmm(start, weight, padded.T, meta=settings)
            return y[:, :rows].T.contiguous()

        return run

    @property
    def _blocks(self) -> Bsr:
        return Bsr(self.side, self.side)
