"""Densities from the shapes alone, as in a sparse random graph."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sparsity_core.allocations.allocation import ALLOCATIONS, Allocation, Layer, whole_weights


@ALLOCATIONS.register("er")
@dataclass(frozen=True)
class ER(Allocation):
    """Erdos-Renyi: density_l = eps * (inputs + outputs) / (inputs * outputs); kernels do not count.

    Source: Mocanu et al. 2018, arXiv 1707.04780; solved as in Evci et al. 2020.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """Whole weights, rounded so that their sum meets the budget exactly."""
        return _random_graph(layers, target, lambda s: (s[0] + s[1]) / (s[0] * s[1]))


@ALLOCATIONS.register("erk")
@dataclass(frozen=True)
class ERK(Allocation):
    """Erdos-Renyi-Kernel: density_l = eps * sum(shape_l) / prod(shape_l), eps from the budget.

    Layers whose density would pass 1 stay dense and eps is solved again without them. Thin layers
    keep more than wide ones. Source: Evci et al. 2020 (RigL), arXiv 1911.11134.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """Whole weights, rounded so that their sum meets the budget exactly."""
        return _random_graph(layers, target, lambda s: sum(s) / math.prod(s))


def _random_graph(
    layers: Mapping[str, Layer], target: float, raw_density: Callable[[tuple[int, ...]], float]
) -> dict[str, float]:
    """Densities eps * raw, eps from the budget; who would pass 1 stays dense, and eps again."""
    raw = {name: raw_density(layer.shape) for name, layer in layers.items()}
    dense: set[str] = set()
    budget = round((1 - target) * sum(layer.size for layer in layers.values()))
    density = dict.fromkeys(layers, 1.0)
    while len(dense) < len(layers):
        free = [name for name in layers if name not in dense]
        left = budget - sum(layers[name].size for name in dense)
        eps = left / sum(raw[name] * layers[name].size for name in free)
        density = {name: 1.0 if name in dense else eps * raw[name] for name in layers}
        highest = max(raw[name] for name in free)
        if eps * highest <= 1 + 1e-12:
            break
        # All layers that share the highest density together, as in the paper's code.
        dense |= {name for name in free if raw[name] == highest}
    kept = whole_weights({n: density[n] * layers[n].size for n in layers}, budget)
    return {name: 1 - kept[name] / layer.size for name, layer in layers.items()}
