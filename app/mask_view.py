"""Masks as pictures and numbers: matrix, pooling, windows, agreement. Knows no chart and no page.

The picture of every layer is the matrix of `inputs_last`: one row an output, columns run through
the inputs at one kernel position after the other, so that n:m groups and blocks lie together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sparsity_core.structures import Block, NofM, Structure, inputs_last

Matrix = np.ndarray
MOST = 64  # cells a side that a screen shows as distinct squares


@dataclass(frozen=True, eq=False)
class Pooled:
    """Shares of kept weights in cells of `rows` x `cols` weights; the last cells may be smaller."""

    shares: Matrix  # (cell rows, cell columns), 0..1
    rows: int
    cols: int

    @property
    def caption(self) -> str:
        """What one cell stands for."""
        if self.rows == self.cols == 1:
            return "each cell = one weight"
        return f"each cell = share kept of {self.rows} x {self.cols} weights"


@dataclass(frozen=True)
class Agreement:
    """How two masks of one layer overlap, in numbers of weights."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def jaccard(self) -> float | None:
        """Kept by both over kept by any; None where nothing is kept at all."""
        union = self.both + self.only_a + self.only_b
        return self.both / union if union else None

    @property
    def by_chance(self) -> float | None:
        """The Jaccard index to expect of two random masks with these counts."""
        size = self.both + self.only_a + self.only_b + self.neither
        kept_a, kept_b = self.both + self.only_a, self.both + self.only_b
        both = kept_a * kept_b / size if size else 0.0
        union = kept_a + kept_b - both
        return both / union if union else None

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.both + other.both,
            self.only_a + other.only_a,
            self.only_b + other.only_b,
            self.neither + other.neither,
        )


NOTHING = Agreement(0, 0, 0, 0)


def matrix_of(tensor: Tensor) -> Matrix:
    """A weight or mask as (outputs, kernel positions x inputs)."""
    matrix: Matrix = inputs_last(tensor.detach().cpu()).numpy()
    return matrix


def column_name(column: int, shape: Sequence[int]) -> str:
    """What a column of the matrix reads: `input 3`, or `input 3 at (0, 2)` of a kernel."""
    position, index = divmod(column, shape[1])
    if len(shape) == 2:
        return f"input {index}"
    place = np.unravel_index(position, shape[2:])
    return f"input {index} at ({', '.join(str(int(p)) for p in place)})"


def unit_size(structure: Structure) -> tuple[int, int]:
    """Rows and columns of the tile that a structure decides as one; (1, 1) when there is none."""
    if isinstance(structure, NofM):
        return 1, structure.m
    if isinstance(structure, Block):
        return structure.rows, structure.cols
    return 1, 1


def pool(matrix: Matrix, unit: tuple[int, int] = (1, 1), most: int = MOST) -> Pooled:
    """The mask in at most `most` x `most` cells, each of whole units where more than one weight.

    Cells that cut through n:m groups would show a pattern that is not in the mask.
    """
    rows, cols = (_step(n, u, most) for n, u in zip(matrix.shape, unit, strict=True))
    kept = np.add.reduceat(
        np.add.reduceat(matrix.astype(float), np.arange(0, matrix.shape[0], rows), axis=0),
        np.arange(0, matrix.shape[1], cols),
        axis=1,
    )
    heights = np.diff([*range(0, matrix.shape[0], rows), matrix.shape[0]])
    widths = np.diff([*range(0, matrix.shape[1], cols), matrix.shape[1]])
    return Pooled(kept / np.outer(heights, widths), rows, cols)


def window(size: int, start: int, length: int = MOST) -> slice:
    """`length` places from `start`, moved back where they would pass the end."""
    first = max(0, min(start, size - length))
    return slice(first, min(size, first + length))


def sparsity_along(matrix: Matrix, axis: int) -> np.ndarray:
    """The share of zeros of each row (axis 1) or column (axis 0)."""
    shares: np.ndarray = 1 - matrix.mean(axis=axis)
    return shares


def dead_outputs(mask: Tensor) -> list[int]:
    """Outputs of which no weight is left."""
    return [int(i) for i in (~mask.flatten(1).any(1)).nonzero().flatten()]


def dead_inputs(mask: Tensor) -> list[int]:
    """Inputs that no weight reads any more, at any kernel position.

    In a grouped convolution they count within a group, over all groups.
    """
    return [int(i) for i in (~mask.transpose(0, 1).flatten(1).any(1)).nonzero().flatten()]


def agreement(a: Matrix, b: Matrix) -> Agreement:
    """How two masks of one shape overlap; True = kept."""
    both, kept_a, kept_b = int((a & b).sum()), int(a.sum()), int(b.sum())
    return Agreement(both, kept_a - both, kept_b - both, a.size - kept_a - kept_b + both)


def spans(numbers: Sequence[int]) -> str:
    """Rising whole numbers in few words: `0-3, 7, 9-10`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def _step(size: int, unit: int, most: int) -> int:
    """How many weights go into a cell along one side."""
    if size <= most:
        return 1
    return math.ceil(math.ceil(size / most) / unit) * unit
