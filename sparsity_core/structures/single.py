"""Single weights."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsity_core.structures.structure import STRUCTURES, Shape, Structure


@STRUCTURES.register("unstructured")
@dataclass(frozen=True)
class Unstructured(Structure):
    """Each weight on its own. Source: Han et al. 2015, arXiv 1506.02626."""

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
