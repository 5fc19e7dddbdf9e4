"""How sparse each layer is, given one target for all. To add one: register a dataclass."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError, unknown
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

_MOST_OF_LAST = 0.8


@ALLOCATIONS.register("uniform")
@dataclass(frozen=True)
class Uniform:
    """Every layer equally sparse."""

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """The target, everywhere."""
        return dict.fromkeys(layers, target)


@ALLOCATIONS.register("uniform-plus")
@dataclass(frozen=True)
class UniformPlus:
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


@ALLOCATIONS.register("global")
@dataclass(frozen=True)
class Global:
    """The lowest-scored units of the whole model go, wherever they are.

    A unit's score is its mean score per weight, so that large and small units compete for the same
    budget of weights. Layers may be emptied; `prune` reports those that were.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """The share of each layer's units that is below the common cut; never over the budget."""
        return _below_common_cut(layers, [layer.units for layer in layers.values()], target)


@ALLOCATIONS.register("lamp")
@dataclass(frozen=True)
class LAMP:
    """Global over u^2 / (sum of the v^2 in the layer that are not smaller), u the unit's score.

    The best unit of each layer scores 1, so no layer is emptied before all are. With the scorer
    `magnitude` it is the paper's method. Source: Lee et al. 2021, arXiv 2010.07611.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """The share of each layer's units that is below the common cut; never over the budget."""
        return _below_common_cut(layers, [lamp(layer.units) for layer in layers.values()], target)


def lamp(units: Tensor) -> Tensor:
    """LAMP scores of a layer's units, flat, float64; units already pruned score -inf."""
    flat = units.reshape(-1).double()
    squares = torch.where(flat.isneginf(), 0, flat).square()
    # Among equals the first rank higher, so the last of them is the first in the tail.
    order = flat.argsort(descending=True, stable=True)
    tails = squares[order].cumsum(0)
    scores = torch.empty_like(squares)
    scores[order] = torch.where(tails > 0, squares[order] / tails, 0)
    return scores.masked_fill(flat.isneginf(), -torch.inf)


@ALLOCATIONS.register("er")
@dataclass(frozen=True)
class ER:
    """Erdos-Renyi: density_l = eps * (inputs + outputs) / (inputs * outputs); kernels do not count.

    Source: Mocanu et al. 2018, arXiv 1707.04780; solved as in Evci et al. 2020.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """Whole weights, rounded so that their sum meets the budget exactly."""
        return _random_graph(layers, target, lambda s: (s[0] + s[1]) / (s[0] * s[1]))


@ALLOCATIONS.register("erk")
@dataclass(frozen=True)
class ERK:
    """Erdos-Renyi-Kernel: density_l = eps * sum(shape_l) / prod(shape_l), eps from the budget.

    Layers whose density would pass 1 stay dense and eps is solved again without them. Thin layers
    keep more than wide ones. Source: Evci et al. 2020 (RigL), arXiv 1911.11134.
    """

    def sparsities(self, layers: Mapping[str, Layer], target: float) -> dict[str, float]:
        """Whole weights, rounded so that their sum meets the budget exactly."""
        return _random_graph(layers, target, lambda s: sum(s) / math.prod(s))


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


def _below_common_cut(
    layers: Mapping[str, Layer], scores: Sequence[Tensor], target: float
) -> dict[str, float]:
    """One sort over the units of all layers; the lowest go while the budget of weights lasts."""
    if not layers:
        return {}
    flat = torch.cat([score.reshape(-1).double() for score in scores])
    counts = [layer.units.numel() for layer in layers.values()]
    sizes = torch.tensor([layer.size // layer.units.numel() for layer in layers.values()])
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    # Descending and stable, then read backwards: among equals the first stay, as in each layer.
    order = flat.argsort(descending=True, stable=True).flip(0).cpu()
    removed = sizes[owner[order]].cumsum(0)
    budget = round(target * sum(layer.size for layer in layers.values()))
    pruned = torch.bincount(owner[order[removed <= budget]], minlength=len(counts))
    return {name: int(n) / count for name, n, count in zip(layers, pruned, counts, strict=True)}


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
    kept = _round_to_sum({n: density[n] * layers[n].size for n in layers}, budget)
    return {name: 1 - kept[name] / layer.size for name, layer in layers.items()}


def _round_to_sum(exact: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that add up to `total`, each less than one away (largest remainders)."""
    rounded = {name: math.floor(value + 1e-9) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: rounded[name] - exact[name])
    for name in by_remainder[: total - sum(rounded.values())]:
        rounded[name] += 1
    return rounded
