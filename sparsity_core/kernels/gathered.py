"""Single weights on a GPU: each names its input, in our own Triton kernel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.gpu import TritonKernel, columns_type
from sparsity_core.kernels.kernel import KERNELS, Parts, Product
from sparsity_core.kernels.torch_sparse import Csr
from sparsity_core.structures import ConstantFanIn, NofM, Structure

_MOST = 256  # weights at a time


@dataclass(frozen=True)
class Gathered(TritonKernel):
    """`samples` at a time where there are many, `tile` weights x samples in programs of `warps`."""

    dtype: str = "float32"
    samples: int = 32
    tile: int = 256
    warps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_powers_of_two(samples=self.samples, tile=self.tile, warps=self.warps)


@KERNELS.register("gpu-unstructured")
@dataclass(frozen=True)
class GpuUnstructured(Gathered):
    """Any mask on a GPU: outputs as long as they are, with 16-bit columns up to 32768 inputs.

    Inputs of several samples are transposed within the call, so that a weight reads neighbouring
    samples.
    """

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """As `csr`, with smaller columns."""
        parts = Csr().encode(weight.to(self.stores), mask)
        return {**parts, "columns": parts["columns"].to(columns_type(weight.shape[1]))}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """As `csr`."""
        return Csr().decode(parts, shape)

    def product(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """The common product."""
        return gathered(self, shape, parts, bias)


@KERNELS.register("gpu-condensed")
@dataclass(frozen=True)
class GpuCondensed(Gathered):
    """Constant fan-in on a GPU: `values` and `columns` are (outputs, weights of each).

    The condensed form of Lasby et al. 2024, arXiv 2305.02299, whose GPU kernel was measured with
    inputs already transposed: here that is paid for.
    """

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Needs equally many weights in each output."""
        if isinstance(structure, ConstantFanIn | NofM):
            return None
        return "takes masks of constant fan-in or n:m"

    def pattern(self, sparsity: float) -> Structure:  # noqa: ARG002
        """Constant fan-in."""
        return ConstantFanIn()

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The kept weights of each output side by side."""
        counts = mask.sum(1)
        if bool((counts != counts[0]).any()):
            row = int((counts != counts[0]).nonzero()[0])
            raise SparsityError(
                f"gpu-condensed: output {row} keeps {int(counts[row])} weights, output 0 keeps "
                f"{int(counts[0])}; prune with constant-fan-in, or choose gpu-unstructured"
            )
        shape = (len(weight), int(counts[0]))
        columns = mask.nonzero()[:, 1].reshape(shape)
        return {
            "columns": columns.to(columns_type(weight.shape[1])),
            "values": weight[mask].reshape(shape).to(self.stores),
        }

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values at their places."""
        values, columns = parts["values"], parts["columns"].long()
        weight = values.new_zeros(shape).scatter_(1, columns, values)
        kept = torch.zeros(shape, dtype=torch.bool, device=values.device)
        return weight, kept.scatter_(1, columns, True)

    def product(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """The common product."""
        return gathered(self, shape, parts, bias)


def gathered(
    kernel: Gathered, shape: tuple[int, ...], parts: Parts, bias: Tensor | None
) -> Product:
    """The product of one output after the other, see `triton_products.gather`.

    Without `starts` among the parts all outputs have equally many weights.
    """
    from sparsity_core.kernels import triton_products

    columns, values, starts = parts["columns"], parts["values"], parts.get("starts")
    fan_in = values.shape[-1] if starts is None else 0
    added = values.new_zeros(shape[0]) if bias is None else bias

    def run(x: Tensor) -> Tensor:
        rows = len(x)
        y = x.new_empty(rows, shape[0])
        if not rows:
            return y
        samples = min(kernel.samples, next_power_of_two(rows))
        times = 2 if rows > samples else 1
        tiles = in_tiles(x, times * samples)
        triton_products.gather[(shape[0], len(tiles))](
            *(tiles, y, added, values if starts is None else starts, columns, values),
            *(rows, shape[1], shape[0], fan_in),
            EVEN=starts is None,
            WEIGHTS=max(1, min(_MOST, kernel.tile // samples)),
            SAMPLES=samples,
            TIMES=times,
            num_warps=kernel.warps,
        )
        return y

    return run


def in_tiles(x: Tensor, samples: int) -> Tensor:
    """(rows, inputs) as (tiles, inputs, samples), filled up with zeros."""
    from sparsity_core.kernels import triton_products

    rows, inputs = x.shape
    tiles = -(-rows // samples)
    check_32_bits(tiles * samples, inputs)
    if samples == 1:
        return x.contiguous().view(rows, inputs, 1)
    y = x.new_empty(tiles, inputs, samples)
    columns = max(32, 2048 // samples)
    triton_products.transpose[(tiles, -(-inputs // columns))](
        *(x.contiguous(), y, rows, inputs), SAMPLES=samples, COLS=columns
    )
    return y


def check_32_bits(samples: int, numbers: int) -> None:
    """Raise SparsityError where places among so many samples' numbers do not fit into 32 bits."""
    if samples * numbers >= 1 << 31:
        raise SparsityError(f"{samples} samples of {numbers} numbers are too many for 32 bits")


def next_power_of_two(count: int) -> int:
    """The smallest power of two that is not below a count of 1 or more."""
    return 1 << (count - 1).bit_length()


def check_powers_of_two(**values: int) -> None:
    """Raise SparsityError unless all are powers of two."""
    for name, value in values.items():
        if value < 1 or value & (value - 1):
            raise SparsityError(f"{name}={value}: needs a power of two")
