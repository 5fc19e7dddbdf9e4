"""What the kernels for GPUs share: how their weights get there, and why they may not run."""

import os
from abc import abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.kernel import Kernel, Parts, Product, dtype_name
from sparsity_core.structures import Structure

DTYPES = {dtype_name(d): d for d in (torch.float32, torch.float16, torch.bfloat16)}
SIXTEEN_BITS = ("float16", "bfloat16")


@dataclass(frozen=True)
class GpuKernel(Kernel):
    """Weights, inputs and outputs of one type on a CUDA GPU; sums are float32.

    Packed on the CPU, as every format is; the parts are copied to a GPU at the first call there.
    """

    device: ClassVar[str] = "cuda"
    dtypes: ClassVar[tuple[str, ...]] = tuple(DTYPES)
    capability: ClassVar[tuple[int, int]] = (7, 0)  # of the oldest GPU that will do
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.dtype not in self.dtypes:
            raise SparsityError(f"dtype {self.dtype!r}: choose one of {', '.join(self.dtypes)}")

    @property
    def stores(self) -> torch.dtype:
        """The dtype."""
        return DTYPES[self.dtype]

    @property
    def takes(self) -> torch.dtype:
        """The dtype."""
        return DTYPES[self.dtype]

    def accepts(self, x: Tensor, inputs: int) -> bool:
        """Whether these are inputs for a packed matrix."""
        return x.dtype is self.stores and x.shape[-1] == inputs and x.is_cuda

    def why_not(
        self,
        structure: Structure,
        shape: tuple[int, ...],
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> str | None:
        """Both what the machine lacks and what the format does not take."""
        machine = f"needs a CUDA GPU, not the {device}" if device != "cuda" else self.lacks()
        reasons = [machine, super().why_not(structure, shape, self.device, dtype)]
        return "; ".join(reason for reason in reasons if reason) or None

    def lacks(self) -> str | None:
        """What this machine has not."""
        if not torch.cuda.is_available():
            return "needs a CUDA GPU: torch finds none here"
        found = torch.cuda.get_device_capability()
        if found < self.capability:
            wanted = ".".join(map(str, self.capability))
            return f"needs a GPU of compute capability {wanted}, got {found[0]}.{found[1]}"
        return None

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """The product on whichever GPU the inputs lie."""
        products: dict[torch.device, Product] = {}

        def run(x: Tensor) -> Tensor:
            product = products.get(x.device)
            if product is None:
                here = {name: part.to(x.device) for name, part in parts.items()}
                added = None if bias is None else bias.to(x.device, self.stores)
                product = products[x.device] = self.product(here, shape, added)
            return product(x)

        return run

    @abstractmethod
    def product(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """The product with parts that lie on a GPU."""


@dataclass(frozen=True)
class TritonKernel(GpuKernel):
    """A kernel of our own in Triton; its interpreter runs it on a CPU for tests."""

    def lacks(self) -> str | None:
        """A GPU or Triton."""
        if find_spec("triton") is None:
            return "needs Triton: pip install 'sparsity-explorer[gpu]'"
        return None if interpreted() else super().lacks()

    def accepts(self, x: Tensor, inputs: int) -> bool:
        """Interpreted: on the CPU."""
        if not interpreted():
            return super().accepts(x, inputs)
        return x.dtype is self.stores and x.shape[-1] == inputs and x.is_cpu


def interpreted() -> bool:
    """Whether Triton was told to run kernels in Python, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def columns_type(inputs: int) -> torch.dtype:
    """The smallest signed type for the place of an input."""
    return torch.int16 if inputs <= 1 << 15 else torch.int32
