"""What a structure is, the list of all of them, and how weights look as a matrix."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from sparsity_core.registry import Registry
from sparsity_core.selection import count_pruned, keep_best
from sparsity_core.weights import Prunable

Shape = tuple[int, ...]


class Structure(ABC):
    """Pools scores into units, chooses which stay, expands the choice into a mask."""

    within_row: ClassVar[bool] = False  # is each unit part of one output's weights?
    removes_outputs: ClassVar[bool] = False  # does a dead unit mean a dead output?

    @property
    def fixed_sparsity(self) -> float | None:
        """The only sparsity (besides 0) that the structure can have, or None."""
        return None

    def of(self, layer: Prunable) -> "Structure":  # noqa: ARG002
        """The structure as this layer has it, where it depends on the layer."""
        return self

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


def inputs_last(weight: Tensor) -> Tensor:
    """A weight as a matrix (outputs, kernel positions * inputs), neighbouring inputs adjacent."""
    return weight.movedim(1, -1).reshape(weight.shape[0], -1)


def from_inputs_last(matrix: Tensor, shape: Shape) -> Tensor:
    """The inverse of `inputs_last`."""
    outputs, inputs, *kernel = shape
    return matrix.reshape(outputs, *kernel, inputs).movedim(-1, 1).contiguous()


def needs_two(count: int, unit: str) -> str | None:
    """Why so few units cannot be pruned, or None when they can."""
    if count >= 2:
        return None
    return f"has {count} {unit}{'' if count == 1 else 's'}: pruning would empty the layer"
