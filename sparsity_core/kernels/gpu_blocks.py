"""Square blocks on the tensor cores of a GPU, in our own Triton kernel."""

from dataclasses import dataclass

from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.gathered import (
    check_32_bits,
    check_powers_of_two,
    next_power_of_two,
)
from sparsity_core.kernels.gpu import TritonKernel
from sparsity_core.kernels.kernel import KERNELS, Parts, Product
from sparsity_core.kernels.torch_sparse import Bsr
from sparsity_core.structures import Block, Structure

_LEAST = 16  # rows and columns that tensor cores take


@KERNELS.register("gpu-bsr")
@dataclass(frozen=True)
class GpuBsr(TritonKernel):
    """Compressed sparse rows of square blocks: `side` x `side` on tensor cores.

    A program makes one row of blocks for `samples`, with `stages` blocks on their way from memory.
    torch's own kernel for this (`bsr_dense_addmm`) is tuned for the A100 alone and takes and gives
    transposed matrices: on an H200, 3.6 times as long.
    """

    side: int = 64
    samples: int = 128
    warps: int = 4
    stages: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_powers_of_two(side=self.side, samples=self.samples, warps=self.warps)
        for name in ("side", "samples"):
            if getattr(self, name) < _LEAST:
                raise SparsityError(f"{name}={getattr(self, name)}: needs {_LEAST} or more")

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
        """See `triton_products.blocks`."""
        from sparsity_core.kernels import triton_products

        outputs, inputs = shape
        starts, columns, values = parts["starts"], parts["columns"], parts["blocks"]
        added = values.new_zeros(outputs) if bias is None else bias

        def run(x: Tensor) -> Tensor:
            rows = len(x)
            y = x.new_empty(rows, outputs)
            if not rows:
                return y
            check_32_bits(rows, max(shape))
            samples = min(self.samples, max(_LEAST, next_power_of_two(rows)))
            triton_products.blocks[(-(-rows // samples), outputs // self.side)](
                *(x.contiguous(), y, added, starts, columns, values, rows, outputs, inputs),
                SIDE=self.side,
                SAMPLES=samples,
                STAGES=self.stages,
                num_warps=self.warps,
            )
            return y

        return run

    @property
    def _blocks(self) -> Bsr:
        return Bsr(self.side, self.side)
