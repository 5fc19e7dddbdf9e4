"""Tiles of neighbouring outputs and inputs."""

import math
from dataclasses import dataclass

from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.registry import Shorthand
from sparsity_core.structures.structure import (
    STRUCTURES,
    Shape,
    Structure,
    from_inputs_last,
    inputs_last,
    needs_two,
)


@STRUCTURES.register("block", Shorthand(r"(?:block-)?(?P<rows>\d+)x(?P<cols>\d+)", "{rows}x{cols}"))
@dataclass(frozen=True)
class Block(Structure):
    """Tiles of `rows` outputs by `cols` inputs, at one kernel position (4x1 suits CPUs).

    Source: Narang et al. 2017, arXiv 1711.02782.
    """

    rows: int = 4
    cols: int = 4

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1:
            raise SparsityError(f"block {self.rows}x{self.cols}: both sides must be 1 or more")

    def fits(self, shape: Shape, groups: int = 1) -> str | None:  # noqa: ARG002
        """Needs multiples of `rows` outputs and `cols` inputs."""
        if shape[0] % self.rows:
            return f"needs a multiple of {self.rows} outputs, got {shape[0]}"
        if shape[1] % self.cols:
            return f"needs a multiple of {self.cols} inputs, got {shape[1]}"
        return needs_two(math.prod(shape) // (self.rows * self.cols), "block")

    def units(self, scores: Tensor) -> Tensor:
        """One unit a tile."""
        matrix = inputs_last(scores)
        tiles = matrix.unflatten(1, (-1, self.cols)).unflatten(0, (-1, self.rows))
        return tiles.mean((1, 3))  # (row tiles, rows, column tiles, cols) -> tiles

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """Each tile's choice, repeated over its weights."""
        matrix = chosen.repeat_interleave(self.rows, 0).repeat_interleave(self.cols, 1)
        return from_inputs_last(matrix, shape)
