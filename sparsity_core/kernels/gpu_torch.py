"""What torch itself multiplies on a GPU: dense, compressed rows."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from sparsity_core.kernels.gpu import GpuKernel
from sparsity_core.kernels.kernel import KERNELS, Parts, Product, not_zero
from sparsity_core.kernels.torch_sparse import Csr, compressed


@KERNELS.register("gpu-dense")
@dataclass(frozen=True)
class GpuDense(GpuKernel):
    """torch's `F.linear` on a GPU: the rival. float32 uses TF32 only where torch is told so."""

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
    """Compressed sparse rows with 32-bit indices, multiplied by cuSPARSE."""

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
            y = (weight @ x[0])[None] if len(x) == 1 else (weight @ x.T).T.contiguous()
            return y if bias is None else y.add_(bias)

        return run
