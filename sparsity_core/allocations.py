"""How sparse each layer is, given one target for all. To add one: register a dataclass."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sparsity_core.errors import unknown
from sparsity_core.registry import Registry
from sparsity_core.weights import check_sparsity


@dataclass(frozen=True, eq=False)
class Layer:
    """What an allocation may look at: the weight's shape and the scores of its units."""

    shape: tuple[int, ...]
    units: Tensor  # any shape; higher = keep; -inf = already pruned

    @property
    def size(self) -> int:
        """The number of weights."""
        return math.prod(self.shape)


class Allocation(Protocol):
    """From one target for all layers to one sparsity for each."""

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """Shares of zeros by layer name; together they remove `target` of all weights."""


ALLOCATIONS: Registry[Allocation] = Registry("allocation")


@ALLOCATIONS.register("uniform")
@dataclass(frozen=True)
class Uniform:
    """Every layer equally sparse."""

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """The target, everywhere."""
        return dict.fromkeys(layers, target)


@ALLOCATIONS.register("global")
@dataclass(frozen=True)
class Global:
    """The lowest-scored units of the whole model go, wherever they are.

    A unit's score is its mean score per weight, so that large and small units compete for the same
    budget of weights. Layers may be emptied; `prune` reports those that were.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """The share of each layer's units that is below the common cut; never over the budget."""
        if not layers:
            return {}
        scores = torch.cat([layer.units.reshape(-1).double() for layer in layers.values()])
        counts = [layer.units.numel() for layer in layers.values()]
        sizes = torch.tensor([layer.size // layer.units.numel() for layer in layers.values()])
        owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        # Descending and stable, then read backwards: among equals the first stay, as in each layer.
        order = scores.argsort(descending=True, stable=True).flip(0)
        removed = sizes[owner[order]].cumsum(0)
        budget = round(target * sum(layer.size for layer in layers.values()))
        pruned = torch.bincount(owner[order[removed <= budget]], minlength=len(counts))
        return {name: int(n) / count for name, n, count in zip(layers, pruned, counts, strict=True)}


@ALLOCATIONS.register("erk")
@dataclass(frozen=True)
class ERK:
    """Erdos-Renyi-Kernel: density_l = eps * sum(shape_l) / prod(shape_l), eps from the budget.

    Layers whose density would pass 1 stay dense and eps is solved again without them. Thin layers
    keep more than wide ones. Source: Evci et al. 2020 (RigL), arXiv 1911.11134.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """Whole weights, rounded so that their sum meets the budget exactly."""
        raw = {name: sum(layer.shape) / layer.size for name, layer in layers.items()}
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
        kept = _round_to_sum({n: density[n] * layers[n].size for n in layers}, budget)
        return {name: 1 - kept[name] / layer.size for name, layer in layers.items()}


@ALLOCATIONS.register("manual")
@dataclass(frozen=True)
class Manual:
    """Each layer as given, whatever the target; layers that are not named stay dense.

    `layers`: pairs of name and sparsity, or a mapping.
    """

    layers: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        given = self.layers.items() if isinstance(self.layers, Mapping) else self.layers
        pairs = tuple((str(n), check_sparsity(s, f"{n}: sparsity")) for n, s in given)
        object.__setattr__(self, "layers", pairs)

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:  # noqa: ARG002
        """The given shares; raises SparsityError for a layer that cannot be pruned here."""
        for name, sparsity in self.layers:
            if name not in layers and sparsity > 0:
                raise unknown("layer of the manual allocation", name, layers)
        return dict.fromkeys(layers, 0.0) | {n: s for n, s in self.layers if n in layers}


def _round_to_sum(exact: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that add up to `total`, each less than one away (largest remainders)."""
    rounded = {name: math.floor(value + 1e-9) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: rounded[name] - exact[name])
    for name in by_remainder[: total - sum(rounded.values())]:
        rounded[name] += 1
    return rounded
