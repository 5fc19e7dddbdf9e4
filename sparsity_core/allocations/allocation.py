"""What an allocation is, and the list of all of them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sparsity_core.registry import Registry

Budget = Literal["weights", "macs"] | None


@dataclass(frozen=True, eq=False)
class Layer:
    """What an allocation may look at: the weight's shape, the scores of its units, its products."""

    shape: tuple[int, ...]
    units: Tensor  # any shape; higher = keep; -inf = already pruned
    macs: int = 0  # multiply-adds for one sample; 0 where `budget` is not macs

    @property
    def size(self) -> int:
        """The number of weights."""
        return math.prod(self.shape)


class Allocation(ABC):
    """From one target for all layers to one sparsity for each; a frozen dataclass."""

    @property
    def budget(self) -> Budget:
        """What the target is a share of; None: layers get what they are given, whatever it is."""
        return "weights"

    @abstractmethod
    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """Shares of zeros by layer name; together they remove `target` of the budget."""


ALLOCATIONS: Registry[Allocation] = Registry("allocation")


def whole_weights(exact: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that add up to `total`, each less than one away (largest remainders)."""
    rounded = {name: math.floor(value + 1e-9) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: rounded[name] - exact[name])
    for name in by_remainder[: total - sum(rounded.values())]:
        rounded[name] += 1
    return rounded
