"""A fixed number of weights in each group: what sparse hardware and kernels like."""

import math
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.registry import Shorthand
from sparsity_core.selection import count_pruned, keep_best
from sparsity_core.structures.structure import (
    STRUCTURES,
    Shape,
    Structure,
    from_inputs_last,
    inputs_last,
    needs_two,
)


@STRUCTURES.register("n:m", Shorthand(r"(?P<n>\d+):(?P<m>\d+)", "{n}:{m}"))
@dataclass(frozen=True)
class NofM(Structure):
    """Keep `n` of each `m` neighbouring inputs, at one kernel position (2:4 suits GPUs, 3:32 CPUs).

    Groups run along the input channels, as the hardware reads them, never along flat OIHW memory.
    With m = 32, such as 3:32, it is what a CPU's permutes speed up. Source: Mishra et al. 2021,
    arXiv 2104.08378.
    """

    within_row: ClassVar[bool] = True
    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m <= 64:
            raise SparsityError(f"{self.n}:{self.m}: n:m needs 1 <= n <= m <= 64")

    @property
    def fixed_sparsity(self) -> float:
        """1 - n/m."""
        return 1 - self.n / self.m

    def fits(self, shape: Shape, groups: int = 1) -> str | None:  # noqa: ARG002
        """Needs a multiple of `m` inputs."""
        if shape[1] % self.m:
            return f"needs a multiple of {self.m} inputs, got {shape[1]}"
        return None if math.prod(shape) else "has no weights"

    def units(self, scores: Tensor) -> Tensor:
        """(groups, m) scores of weights."""
        return inputs_last(scores).reshape(-1, self.m)

    def choose(self, units: Tensor, sparsity: float) -> Tensor:
        """The `n` best of each group; all at sparsity 0."""
        return keep_best(units, 0 if sparsity == 0 else self.m - self.n)

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """The choice in the weight's shape."""
        return from_inputs_last(chosen.reshape(shape[0], -1), shape)


@STRUCTURES.register(
    "transposable-n:m", Shorthand(r"transposable-(?P<n>\d+):(?P<m>\d+)", "transposable-{n}:{m}")
)
@dataclass(frozen=True)
class Transposable(Structure):
    """Keep `n` of each `m` in both directions: rows and columns of every m x m tile.

    So the transposed weight, which the backward pass multiplies by, is n:m as well. Each tile takes
    the best of all valid patterns (90 for 2:4), which is why m ends at 4. Source: Hubara et al.
    2021, arXiv 2102.08124.
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m <= 4:
            raise SparsityError(
                f"transposable-{self.n}:{self.m}: needs 1 <= n <= m <= 4, since all patterns of a "
                "tile are searched; choose n:m for a larger m"
            )

    @property
    def fixed_sparsity(self) -> float:
        """1 - n/m."""
        return 1 - self.n / self.m

    def fits(self, shape: Shape, groups: int = 1) -> str | None:  # noqa: ARG002
        """Needs multiples of `m` outputs and inputs."""
        for count, side in ((shape[0], "outputs"), (shape[1], "inputs")):
            if count % self.m:
                return f"needs a multiple of {self.m} {side}, got {count}"
        return None if math.prod(shape) else "has no weights"

    def units(self, scores: Tensor) -> Tensor:
        """(row tiles, column tiles, m, m) scores of weights."""
        tiles = inputs_last(scores).unflatten(1, (-1, self.m)).unflatten(0, (-1, self.m))
        return tiles.transpose(1, 2)

    def choose(self, units: Tensor, sparsity: float) -> Tensor:
        """The pattern of largest sum in each tile; all at sparsity 0. Among equals, the first."""
        if sparsity == 0:
            return torch.ones_like(units, dtype=torch.bool)
        patterns = _patterns(self.n, self.m).to(units.device)
        scores = units.double().flatten(2)
        # Weights already pruned score -inf, and -inf times False is NaN: worse than all will do.
        worst = -1 - 2 * scores.masked_fill(scores.isneginf(), 0).abs().sum(2, keepdim=True)
        sums = torch.where(scores.isneginf(), worst, scores) @ patterns.double().flatten(1).T
        return patterns[sums.argmax(2)]

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """The choice in the weight's shape."""
        return from_inputs_last(chosen.transpose(1, 2).reshape(shape[0], -1), shape)


@STRUCTURES.register("constant-fan-in")
@dataclass(frozen=True)
class ConstantFanIn(Structure):
    """Every output keeps the same number of inputs, each its own best ones.

    Rows of equal length pack without padding. Source: Lasby et al. 2024 (SRigL), arXiv 2305.02299.
    """

    within_row: ClassVar[bool] = True

    def fits(self, shape: Shape, groups: int = 1) -> str | None:  # noqa: ARG002
        """Needs two weights or more in each row."""
        return needs_two(math.prod(shape[1:]), "weight a row")

    def units(self, scores: Tensor) -> Tensor:
        """(outputs, fan-in) scores of weights."""
        return scores.flatten(1)

    def choose(self, units: Tensor, sparsity: float) -> Tensor:
        """The best of each row, as many in every row."""
        return keep_best(units, count_pruned(units.shape[1], sparsity))

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """The choice in the weight's shape."""
        return chosen.reshape(shape)


@cache
def _patterns(n: int, m: int) -> Tensor:
    """All m x m masks with n in every row and every column."""
    rows = [[i in kept for i in range(m)] for kept in combinations(range(m), n)]
    tiles = [t for t in product(rows, repeat=m) if all(sum(c) == n for c in zip(*t, strict=True))]
    return torch.tensor(tiles)
