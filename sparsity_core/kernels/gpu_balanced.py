"""Balanced n:32 patterns on a GPU, in our own Triton kernel."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.kernels.balanced import WIDTH, balanced_columns, why_unbalanced
from sparsity_core.kernels.gathered import check_powers_of_two, in_tiles, next_power_of_two
from sparsity_core.kernels.gpu import SIXTEEN_BITS, TritonKernel
from sparsity_core.kernels.kernel import KERNELS, Parts, Product
from sparsity_core.structures import NofM, Structure

_SLOTS = 3  # weights in a word
_SHIFTS = torch.tensor([0, 16, 32, 48, 53, 58])  # of values, then of places
_MOST, _WORDS = 32, 128  # samples, words of an output at a time


@KERNELS.register("gpu-balanced")
@dataclass(frozen=True)
class GpuBalanced(TritonKernel):
    """n:32 masks (and n:m, where m divides 32) on a GPU; for few samples, where reading is all.

    A word of 64 bits holds three weights and their places, so 2.7 bytes a weight where n is a
    multiple of 3. Programs of `warps` hold `outputs` at a time, and up to `tile` words x outputs x
    samples.
    """

    dtypes: ClassVar[tuple[str, ...]] = SIXTEEN_BITS
    outputs: int = 4
    tile: int = 1024
    warps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_powers_of_two(outputs=self.outputs, tile=self.tile, warps=self.warps)

    def refuses(self, structure: Structure, shape: tuple[int, ...]) -> str | None:
        """Needs such a structure and a multiple of 32 inputs."""
        return why_unbalanced(structure, shape)

    def pattern(self, sparsity: float) -> Structure:
        """The n:32 nearest to the sparsity."""
        return NofM(max(1, round(WIDTH * (1 - sparsity))), WIDTH)

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """`words` (outputs, blocks of 32 inputs, words of a block).

        A slot that is left holds 0 at the place of the word's first weight.
        """
        columns = balanced_columns("gpu-balanced", mask)
        bits = weight[mask].to(self.stores).view(torch.int16).reshape(columns.shape).long() & 0xFFFF
        left = -columns.shape[2] % _SLOTS
        values = F.pad(bits, (0, left)).unflatten(2, (-1, _SLOTS))
        places = F.pad(columns % WIDTH, (0, left), value=-1).unflatten(2, (-1, _SLOTS))
        places = torch.where(places < 0, places[..., :1], places)
        return {"words": (torch.cat([values, places], 3) << _SHIFTS).sum(3)}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values at their places."""
        shifts = _SHIFTS.to(parts["words"].device)
        values, places = (parts["words"][..., None] >> shifts).split(_SLOTS, dim=3)
        places = places & 31
        taken = torch.ones_like(places, dtype=torch.bool)
        taken[:, :, -1:, self._last(parts["words"]) :] = False
        rows, blocks, *_ = taken.nonzero(as_tuple=True)
        columns = blocks * WIDTH + places[taken]
        weight = torch.zeros(shape, dtype=self.stores, device=shifts.device)
        weight[rows, columns] = values[taken].to(torch.int16).view(self.stores)
        kept = torch.zeros(shape, dtype=torch.bool, device=shifts.device)
        kept[rows, columns] = True
        return weight, kept

    def product(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """See `triton_products.balanced`."""
        from sparsity_core.kernels import triton_products

        words, block = parts["words"].flatten(1), max(1, parts["words"].shape[2])
        last = self._last(parts["words"])
        added = words.new_zeros(shape[0], dtype=self.stores) if bias is None else bias

        def run(x: Tensor) -> Tensor:
            rows = len(x)
            y = x.new_empty(rows, shape[0])
            if not rows:
                return y
            samples = min(_MOST, next_power_of_two(rows))
            tiles = in_tiles(x, samples)
            triton_products.balanced[(-(-shape[0] // self.outputs), len(tiles))](
                *(tiles, y, added, words, rows, shape[1], shape[0], words.shape[1]),
                BLOCK=block,
                LAST=last,
                OUTPUTS=self.outputs,
                WORDS=max(1, min(_WORDS, self.tile // (self.outputs * samples))),
                SAMPLES=samples,
                num_warps=self.warps,
            )
            return y

        return run

    def _last(self, words: Tensor) -> int:
        """How many weights are in the last word of a block: no two of them have one place."""
        if not words.numel():
            return _SLOTS
        places = words[0, 0, -1].cpu() >> _SHIFTS[_SLOTS:] & 31
        return len(places.unique())
