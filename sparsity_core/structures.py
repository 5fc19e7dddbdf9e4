"""Which weights live or die together: from the scores of weights to a mask of exact count.

A structure pools scores into units, chooses the units that stay, and expands the choice to a mask.
To add one: write a frozen dataclass here and register it.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.registry import Registry, Shorthand

Shape = tuple[int, ...]


def count_pruned(units: int, sparsity: float) -> int:
    """How many of `units` go: the count nearest to the request, a half keeps one more.

    The last unit goes only when sparsity 1 is asked for: rounding never empties a layer.
    """
    if sparsity >= 1:
        return units
    # Rounded first, since 0.29 * 100 is 28.999999999999996.
    return max(0, min(math.ceil(round(units * sparsity, 6) - 0.5), units - 1))


def keep_best(units: Tensor, pruned: Tensor | int) -> Tensor:
    """True for all but the `pruned` lowest units of the last axis; among equals the first stay.

    By index, never by a threshold: counts are exact, and a higher sparsity keeps a subset.
    """
    order = units.argsort(dim=-1, descending=True, stable=True)
    kept_of_sorted = torch.arange(units.shape[-1], device=units.device) < (
        units.shape[-1] - torch.as_tensor(pruned, device=units.device)
    )
    kept = torch.zeros_like(units, dtype=torch.bool)
    return kept.scatter_(-1, order, kept_of_sorted.expand_as(order))


class Structure(ABC):
    """Pools scores into units, chooses which stay, expands the choice into a mask."""

    within_row: ClassVar[bool] = False  # is each unit part of one output's weights?
    removes_outputs: ClassVar[bool] = False  # does a dead unit mean a dead output?

    @property
    def fixed_sparsity(self) -> float | None:
        """The only sparsity (besides 0) that the structure can have, or None."""
        return None

    @abstractmethod
    def fits(self, shape: Shape, groups: int = 1) -> str | None:
        """Why a weight of this shape cannot have the structure, or None when it can."""

    @abstractmethod
    def units(self, scores: Tensor) -> Tensor:
        """Scores of weights pooled into scores of units (the mean over each unit's weights)."""

    @abstractmethod
    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """A mask of the weight's shape from the choice of units."""

    def choose(self, units: Tensor, sparsity: float) -> Tensor:
        """True for the units that stay: all but the `count_pruned` lowest."""
        flat = units.reshape(-1)
        kept = keep_best(flat, count_pruned(flat.numel(), sparsity))
        return kept.reshape(units.shape)

    def refuses(self, sparsity: float) -> str | None:
        """Why a layer cannot have this sparsity, or None when it can."""
        fixed = self.fixed_sparsity
        if fixed is None or sparsity == 0 or abs(sparsity - fixed) < 1e-6:
            return None
        return (
            f"{STRUCTURES.label(self)} always removes {fixed:.4g} of the weights, "
            f"asked for {sparsity:.4g}; ask for {fixed:.4g} or choose another structure"
        )


STRUCTURES: Registry[Structure] = Registry("structure")


@STRUCTURES.register("unstructured")
@dataclass(frozen=True)
class Unstructured(Structure):
    """Each weight on its own."""

    within_row: ClassVar[bool] = True

    def fits(self, shape: Shape, groups: int = 1) -> str | None:  # noqa: ARG002
        """Every weight has this structure, save one with nothing in it."""
        return None if math.prod(shape) else "has no weights"

    def units(self, scores: Tensor) -> Tensor:
        """One unit a weight."""
        return scores.reshape(-1)

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """The choice in the weight's shape."""
        return chosen.reshape(shape)


@STRUCTURES.register("out-channel")
@dataclass(frozen=True)
class OutChannel(Structure):
    """Whole filters or neurons: all weights (and the bias) of one output together.

    A zeroed channel is not yet a removed one: shapes stay, and a norm behind it still adds its
    shift.
    """

    removes_outputs: ClassVar[bool] = True

    def fits(self, shape: Shape, groups: int = 1) -> str | None:  # noqa: ARG002
        """Needs two outputs or more."""
        return _needs_two(shape[0], "output")

    def units(self, scores: Tensor) -> Tensor:
        """One unit an output."""
        return scores.flatten(1).mean(1)

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """Rows of the weight."""
        return chosen.reshape(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous()


@STRUCTURES.register("in-channel")
@dataclass(frozen=True)
class InChannel(Structure):
    """All weights that read one input channel together."""

    def fits(self, shape: Shape, groups: int = 1) -> str | None:
        """Needs two inputs or more, and no groups."""
        if groups > 1:
            return f"is a convolution in {groups} groups, where no filter sees all input channels"
        return _needs_two(shape[1], "input")

    def units(self, scores: Tensor) -> Tensor:
        """One unit an input channel."""
        return scores.transpose(0, 1).flatten(1).mean(1)

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """Columns of the weight."""
        return chosen.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape).contiguous()


@STRUCTURES.register("block", Shorthand(r"(?:block-)?(?P<rows>\d+)x(?P<cols>\d+)", "{rows}x{cols}"))
@dataclass(frozen=True)
class Block(Structure):
    """Tiles of `rows` outputs by `cols` inputs, at one kernel position."""

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
        return _needs_two(math.prod(shape) // (self.rows * self.cols), "block")

    def units(self, scores: Tensor) -> Tensor:
        """One unit a tile."""
        matrix = inputs_last(scores)
        tiles = matrix.unflatten(1, (-1, self.cols)).unflatten(0, (-1, self.rows))
        return tiles.mean((1, 3))  # (row tiles, rows, column tiles, cols) -> tiles

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """Each tile's choice, repeated over its weights."""
        matrix = chosen.repeat_interleave(self.rows, 0).repeat_interleave(self.cols, 1)
        return from_inputs_last(matrix, shape)


@STRUCTURES.register("n:m", Shorthand(r"(?P<n>\d+):(?P<m>\d+)", "{n}:{m}"))
@dataclass(frozen=True)
class NofM(Structure):
    """Keep `n` of each `m` neighbouring inputs, at one kernel position (2:4 is what GPUs speed up).

    Groups run along the input channels, as the hardware reads them, never along flat OIHW memory.
    Source: Mishra et al. 2021, arXiv 2104.08378.
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


@STRUCTURES.register("constant-fan-in")
@dataclass(frozen=True)
class ConstantFanIn(Structure):
    """Every output keeps the same number of inputs, each its own best ones.

    Rows of equal length pack without padding. Source: Lasby et al. 2024 (SRigL), arXiv 2305.02299.
    """

    within_row: ClassVar[bool] = True

    def fits(self, shape: Shape, groups: int = 1) -> str | None:  # noqa: ARG002
        """Needs two weights or more in each row."""
        return _needs_two(math.prod(shape[1:]), "weight a row")

    def units(self, scores: Tensor) -> Tensor:
        """(outputs, fan-in) scores of weights."""
        return scores.flatten(1)

    def choose(self, units: Tensor, sparsity: float) -> Tensor:
        """The best of each row, as many in every row."""
        return keep_best(units, count_pruned(units.shape[1], sparsity))

    def expand(self, chosen: Tensor, shape: Shape) -> Tensor:
        """The choice in the weight's shape."""
        return chosen.reshape(shape)


def inputs_last(weight: Tensor) -> Tensor:
    """A weight as a matrix (outputs, kernel positions * inputs), neighbouring inputs adjacent."""
    return weight.movedim(1, -1).reshape(weight.shape[0], -1)


def from_inputs_last(matrix: Tensor, shape: Shape) -> Tensor:
    """The inverse of `inputs_last`."""
    outputs, inputs, *kernel = shape
    return matrix.reshape(outputs, *kernel, inputs).movedim(-1, 1).contiguous()


def _needs_two(count: int, unit: str) -> str | None:
    if count >= 2:
        return None
    return f"has {count} {unit}{'' if count == 1 else 's'}: pruning would empty the layer"
