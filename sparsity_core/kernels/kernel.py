"""What a kernel is, the list of all of them, and a weight packed for one."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.registry import Registry
from sparsity_core.structures import Structure, Unstructured

Parts = Mapping[str, Tensor]  # what a format stores, by name
Product = Callable[[Tensor], Tensor]
_BITS = {2: torch.int16, 4: torch.int32}


@dataclass(frozen=True, eq=False)
class Packed:
    """A masked weight (and bias) in one format: called with inputs it returns outputs.

    Inference alone: there is no gradient.
    """

    kernel: "Kernel"
    shape: tuple[int, ...]
    parts: Parts
    bias: Tensor | None
    kept: int  # weights that the mask keeps
    product: Product  # (rows, inputs) -> (rows, outputs)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs) for a matrix, images for a convolution; of `takes`.

        Raises SparsityError for another type, shape or device, or when a gradient is wanted.
        """
        if x.requires_grad and torch.is_grad_enabled():
            raise SparsityError(
                f"{KERNELS.label(self.kernel)} has no gradient; call it under torch.no_grad()"
            )
        if len(self.shape) > 2:
            return self.product(x)
        if not self.kernel.accepts(x, self.shape[1]):
            raise SparsityError(
                f"{KERNELS.label(self.kernel)} of shape {tuple(self.shape)} takes "
                f"{dtype_name(self.kernel.takes)} inputs (..., {self.shape[1]}) on the "
                f"{self.kernel.device}, got {x.dtype} {tuple(x.shape)} on {x.device}"
            )
        if x.dim() == 2:
            return self.product(x)
        rows = self.product(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]))
        return rows.reshape(*x.shape[:-1], self.shape[0])

    @property
    def bytes(self) -> int:
        """What the weight takes in this format; the bias is not counted."""
        return sum(part.numel() * part.element_size() for part in self.parts.values())

    @property
    def bytes_per_weight(self) -> float:
        """Bytes for each weight that the mask keeps; infinity when it keeps none."""
        return self.bytes / self.kept if self.kept else math.inf

    def dense(self) -> Tensor:
        """The masked weight, from the format."""
        return self.kernel.decode(self.parts, self.shape)[0]

    def run_by(self, kernel: "Kernel") -> "Packed":
        """The same parts, with a product of their own by a kernel of this format."""
        product = kernel.bind(self.parts, self.shape, self.bias)
        return dataclasses.replace(self, kernel=kernel, product=product)


class Kernel(ABC):
    """A storage format and the product that reads it; a frozen dataclass."""

    device: ClassVar[str] = "cpu"
    multiplies: ClassVar[torch.dtype] = torch.float32
    rank: ClassVar[int] = 2  # axes of the weight: a matrix
    finds: ClassVar[str] = ""  # how inputs are found: "gather", "permute", or in order

    @property
    def stores(self) -> torch.dtype:
        """The type of the packed values."""
        return torch.float32

    @property
    def takes(self) -> torch.dtype:
        """The type of inputs and outputs."""
        return torch.float32

    def accepts(self, x: Tensor, inputs: int) -> bool:
        """Whether these are inputs for a packed matrix."""
        return x.dtype is torch.float32 and x.shape[-1] == inputs and x.is_cpu

    def why_not(
        self,
        structure: Structure,
        shape: tuple[int, ...],
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> str | None:
        """Why masks of a structure cannot be packed and run there, or None when they can.

        `dtype`: of the inputs; the kernel's own by default.
        """
        if device != self.device:
            return f"runs on the {self.device}, not on {device}"
        if dtype is not None and dtype != self.takes:
            return f"takes {dtype_name(self.takes)} inputs, not {dtype_name(dtype)}"
        if len(shape) != self.rank:
            return f"takes weights of {self.rank} axes, got {len(shape)}"
        if not math.prod(shape):
            return "takes no weight without elements"
        return self.refuses(structure, shape)

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Why a structure or shape is not for this format; most take any."""
        return None

    def pattern(self, sparsity: float) -> Structure:  # noqa: ARG002
        """The structure that the format is made for, at (or near) a sparsity."""
        return Unstructured()

    @abstractmethod
    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The parts that hold a weight whose masked elements are zero already.

        Raises SparsityError for a mask that the format cannot hold.
        """

    @abstractmethod
    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The weight and a mask under which it packs again; parts may come from a file."""

    @abstractmethod
    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """The product with a packed weight."""

    def pack(self, weight: Tensor, mask: Tensor, bias: Tensor | None = None) -> Packed:
        """The weight under its mask (True stays), ready to be called; checked bit for bit.

        Raises SparsityError for what the format cannot hold.
        """
        name, shape = KERNELS.label(self), tuple(weight.shape)
        for what, tensor in {"weight": weight, "mask": mask, "bias": bias}.items():
            expected = shape[:1] if what == "bias" else shape
            if tensor is not None and (tuple(tensor.shape) != expected or not tensor.is_cpu):
                raise SparsityError(
                    f"{name}: {what} must be {expected} on the cpu, "
                    f"got {tuple(tensor.shape)} on {tensor.device}"
                )
        if weight.dtype is not torch.float32 or len(shape) != self.rank or not weight.numel():
            raise SparsityError(
                f"{name} packs float32 weights of {self.rank} axes with elements, "
                f"got {weight.dtype} {shape}"
            )
        mask = mask.detach().bool()
        masked = weight.detach().masked_fill(~mask, 0).contiguous()
        parts = self.encode(masked, mask)
        if not same_bits(self.decode(parts, shape)[0], masked.to(self.stores)):
            raise SparsityError(f"{name}: packing changed a weight; report this as a bug")
        if bias is not None:
            bias = bias.detach().float().contiguous().clone()
        return Packed(self, shape, parts, bias, int(mask.sum()), self.bind(parts, shape, bias))


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def not_zero(weight: Tensor) -> Tensor:
    """True where any bit is set: what a format without places of its own has stored."""
    return weight.view(_BITS[weight.element_size()]) != 0


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one type are equal bit for bit, NaN and the sign of zero included."""
    kind = _BITS[one.element_size()]
    return one.dtype == other.dtype and torch.equal(one.view(kind), other.view(kind))


KERNELS: Registry[Kernel] = Registry("kernel")
