"""Balanced n:32 patterns on a GPU, in our own Triton kernels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_core.kernels.balanced import WIDTH, balanced_columns, why_unbalanced
from sparsity_core.kernels.gathered import Gathered, check_powers_of_two, gathered
from sparsity_core.kernels.kernel import KERNELS, Parts, Product
from sparsity_core.structures import NofM, Structure

_PROGRAMS = 512  # that keep a large GPU's memory busy: sums are cut into parts until there are
_PARTS = 8


@KERNELS.register("gpu-balanced")
@dataclass(frozen=True)
class GpuBalanced(Gathered):
    """n:32 masks (and n:m, where m divides 32) on a GPU; for few samples, where reading is all.

    Up to `few` samples every weight fetches its input; for more, blocks are made dense in
    registers and multiplied by tensor cores, `outputs` and `blocks` of 32 inputs at a time: then a
    masked weight does multiply, so that an infinite input spoils all outputs. 1 byte for the place
    of a value. Not measured on a GPU.
    """

    dtype: str = "bfloat16"
    few: int = 8
    outputs: int = 32
    blocks: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_powers_of_two(outputs=self.outputs, blocks=self.blocks)

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:
        """Needs such a structure and a multiple of 32 inputs."""
        return why_unbalanced(structure, shape)

    def pattern(self, sparsity: float) -> Structure:
        """The n:32 nearest to the sparsity."""
        return NofM(max(1, round(WIDTH * (1 - sparsity))), WIDTH)

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """`values` and `places`, both (outputs, blocks of 32 inputs, n)."""
        columns = balanced_columns("gpu-balanced", mask)
        return {
            "values": weight[mask].to(self.stores).reshape(columns.shape),
            "places": (columns % WIDTH).to(torch.uint8),
        }

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values at their places."""
        values, places = parts["values"], parts["places"].long()
        blocks = torch.arange(shape[1] // WIDTH, device=values.device)[:, None] * WIDTH
        columns = (places + blocks).flatten(1)
        weight = values.new_zeros(shape).scatter_(1, columns, values.flatten(1))
        kept = torch.zeros(shape, dtype=torch.bool, device=values.device)
        return weight, kept.scatter_(1, columns, True)

    def product(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """One way for few samples and one for many."""
        places, values = parts["places"], parts["values"]
        blocks, n = values.shape[1:]
        fetch = gathered(self, shape, blocks * n, places, values, bias, block=n)
        expand = self._expanded(places, values, shape, bias)
        return lambda x: fetch(x) if len(x) <= self.few or not n else expand(x)

    def _expanded(
        self, places: Tensor, values: Tensor, shape: tuple[int, ...], bias: Tensor | None
    ) -> Product:
        from sparsity_core.kernels import triton_products

        outputs, inputs = shape
        blocks, n = values.shape[1:]

        def run(x: Tensor) -> Tensor:
            rows = len(x)
            samples = 16 if rows <= 16 else 32
            across = (-(-outputs // self.outputs), -(-rows // samples))
            wanted = min(_PARTS, _PROGRAMS // (across[0] * across[1]), blocks // self.blocks)
            each = -(-blocks // max(1, wanted))
            parts = -(-blocks // each)
            sums = x.new_empty(parts, rows, outputs, dtype=torch.float32)
            triton_products.expand[(*across, parts)](
                *(x.contiguous(), sums, places, values, rows, outputs, inputs, each),
                WEIGHTS=n,
                OUTPUTS=self.outputs,
                SAMPLES=samples,
                BLOCKS=self.blocks,
                num_warps=self.warps,
            )
            total = sums.sum(0)
            return (total if bias is None else total + bias).to(x.dtype)

        return run
