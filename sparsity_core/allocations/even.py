"""Every layer alike, or nearly."""

from collections.abc import Mapping
from dataclasses import dataclass

from sparsity_core.allocations.allocation import ALLOCATIONS, Allocation, Layer
from sparsity_core.errors import SparsityError

_MOST_OF_LAST = 0.8


@ALLOCATIONS.register("uniform")
@dataclass(frozen=True)
class Uniform(Allocation):
    """Every layer equally sparse."""

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """The target, everywhere."""
        return dict.fromkeys(layers, target)


@ALLOCATIONS.register("uniform-plus")
@dataclass(frozen=True)
class UniformPlus(Allocation):
    """Equally sparse, but a first convolution stays dense and the last layer keeps a fifth.

    Source: Gale et al. 2019, arXiv 1902.09574.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """The other layers make up for it; raises SparsityError when they cannot."""
        first, last = next(iter(layers)), list(layers)[-1]
        dense = {first} if len(layers[first].shape) > 2 and first != last else set()
        free = [name for name in layers if name not in dense]
        total = target * sum(layer.size for layer in layers.values())
        shared = total / sum(layers[name].size for name in free)
        found = {name: 0.0 if name in dense else shared for name in layers}
        if shared > _MOST_OF_LAST:
            found[last] = _MOST_OF_LAST
            others = [name for name in free if name != last]
            size = sum(layers[name].size for name in others)
            left = total - _MOST_OF_LAST * layers[last].size
            if left > size:
                raise SparsityError(
                    f"uniform-plus: {first} stays dense and {last} keeps a fifth, so the model "
                    f"cannot reach sparsity {target:.4g}; ask for less or choose uniform"
                )
            found |= dict.fromkeys(others, left / size if size else 0.0)
        return found
