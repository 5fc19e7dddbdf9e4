"""How many weights each layer keeps, from one sparsity for all and the shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sparsity_core.allocations import Allocation, Layer
from sparsity_core.dynamic.rule import UpdateRule
from sparsity_core.errors import SparsityError
from sparsity_core.selection import count_pruned
from sparsity_core.weights import canonical_names, prunable


@dataclass(frozen=True)
class Budgets:
    """Whole weights by layer, in the model's order; the others stay dense, with the reason."""

    kept: Mapping[str, int]
    dense: Mapping[str, str]


def budgets_of(
    model: nn.Module,
    rule: UpdateRule,
    allocation: Allocation,
    sparsity: float,
    skip: Sequence[str] = (),
) -> Budgets:
    """The budget of each layer; the target is a share of the layers that are not skipped.

    Layers in `skip` and layers that the rule does not fit stay dense and outside of the target. A
    rule with one fixed sparsity has that everywhere. Raises SparsityError when nothing is left, or
    for another sparsity than the fixed one.
    """
    dense = dict.fromkeys(canonical_names(model, skip), "skipped")
    for name, layer in prunable(model).items():
        if name not in dense and (reason := rule.fits(layer.shape, layer.groups)):
            dense[name] = reason
    layers = {name: layer for name, layer in prunable(model).items() if name not in dense}
    if not layers:
        raise SparsityError(
            f"no layer is left to prune: {dense}; skip fewer or choose another rule"
        )
    fixed = rule.fixed_sparsity
    if fixed is not None:
        if abs(sparsity - fixed) > 1e-6:
            raise SparsityError(
                f"the rule has sparsity {fixed:g} and no other, asked for {sparsity:g}; ask for "
                f"{fixed:g} or choose another rule"
            )
        return Budgets({n: round(layer.size * (1 - fixed)) for n, layer in layers.items()}, dense)
    shapes = {name: Layer(layer.shape, torch.zeros(layer.shape)) for name, layer in layers.items()}
    found = allocation.sparsities(shapes, sparsity)
    kept = {n: layers[n].size - count_pruned(layers[n].size, s) for n, s in found.items()}
    return Budgets(kept, dense)
