"""Layers that get what they are given, whatever the target."""

from collections.abc import Mapping
from dataclasses import dataclass

from sparsity_core.allocations.allocation import ALLOCATIONS, Allocation, Budget, Layer
from sparsity_core.errors import unknown
from sparsity_core.weights import check_sparsity


@ALLOCATIONS.register("manual")
@dataclass(frozen=True)
class Manual(Allocation):
    """Each layer as given, whatever the target; layers that are not named stay dense.

    `layers`: pairs of name and sparsity, or a mapping.
    """

    layers: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        given = self.layers.items() if isinstance(self.layers, Mapping) else self.layers
        pairs = tuple((str(n), check_sparsity(s, f"{n}: sparsity")) for n, s in given)
        object.__setattr__(self, "layers", pairs)

    @property
    def budget(self) -> Budget:
        """None."""
        return None

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:  # noqa: ARG002
        """The given shares; raises SparsityError for a layer that cannot be pruned here."""
        for name, sparsity in self.layers:
            if name not in layers and sparsity > 0:
                raise unknown("layer of the manual allocation", name, layers)
        return dict.fromkeys(layers, 0.0) | {n: s for n, s in self.layers if n in layers}


@ALLOCATIONS.register("threshold")
@dataclass(frozen=True)
class Threshold(Allocation):
    """Every unit scored below `cut` goes, whatever the target.

    With the scorer `han-threshold` this is the rule of Han et al. 2015: below `cut` times the
    standard deviation of the layer's weights.
    """

    cut: float = 1.0

    @property
    def budget(self) -> Budget:
        """None."""
        return None

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:  # noqa: ARG002
        """The share of each layer's units below the cut."""
        return {n: float((layer.units < self.cut).double().mean()) for n, layer in layers.items()}
