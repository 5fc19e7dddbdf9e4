"""Dense products: the rivals, with the zeros multiplied like any other number."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.kernels.kernel import KERNELS, Kernel, Parts, Product, not_zero
from sparsity_core.structures import Structure


class _Dense(Kernel):
    """The masked weight as it is."""

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        return {"weight": weight.to(self.stores)}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        weight = parts["weight"].reshape(shape)
        return weight, not_zero(weight)


@KERNELS.register("dense")
@dataclass(frozen=True)
class Dense(_Dense):
    """torch's `F.linear` in float32: what an ordinary model runs."""

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:  # noqa: ARG002
        """One call."""
        weight = parts["weight"]
        return lambda x: F.linear(x, weight, bias)


@KERNELS.register("dense-transposed")
@dataclass(frozen=True)
class DenseTransposed(_Dense):
    """torch's product with the weight stored inputs first: often faster at batch 1."""

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """The weight, inputs first."""
        return {"weight": weight.T.contiguous()}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Outputs first again."""
        weight = parts["weight"].reshape(shape[1], shape[0]).T.contiguous()
        return weight, not_zero(weight)

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:  # noqa: ARG002
        """One call."""
        weight = parts["weight"]
        if bias is None:
            return lambda x: torch.mm(x, weight)
        return lambda x: torch.addmm(bias, x, weight)


@KERNELS.register("dense-onednn")
@dataclass(frozen=True)
class DenseOneDnn(_Dense):
    """oneDNN's product with a weight laid out for it beforehand, as `torch.compile` freezes it.

    The best dense float32 that torch has on CPUs: 3 times `F.linear` at batch 8 and 64 on an EPYC.
    """

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Needs a torch built with oneDNN."""
        return None if torch.backends.mkldnn.is_available() else "needs a torch with oneDNN"

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:  # noqa: ARG002
        """One call; oneDNN chooses the layout for each number of rows it meets."""
        weight = parts["weight"]
        layouts: dict[int, Tensor] = {}
        product = torch.ops.mkldnn._linear_pointwise

        def run(x: Tensor) -> Tensor:
            rows = len(x)
            if rows not in layouts:
                layouts[rows] = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
            return product(x, layouts[rows], bias, "none", [], "")

        return run


@KERNELS.register("dense-bf16")
@dataclass(frozen=True)
class DenseBf16(DenseOneDnn):
    """oneDNN's product in bfloat16: half the bytes, and the CPU's matrix units where it has them.

    Inputs are rounded to bfloat16 and outputs widened again within the call.
    """

    stores: ClassVar[torch.dtype] = torch.bfloat16
    multiplies: ClassVar[torch.dtype] = torch.bfloat16

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:
        """Needs oneDNN and a CPU that it knows bfloat16 on."""
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return "needs a CPU with AVX-512 or AMX for bfloat16"
        return super().refuses(structure, shape)

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """The product between two conversions."""
        run = super().bind(parts, shape, None if bias is None else bias.bfloat16())
        return lambda x: run(x.bfloat16()).float()
