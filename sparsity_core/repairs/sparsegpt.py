"""SparseGPT: the weights to the right take over what a pruned weight did."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.moments import input_moments, inverse_root
from sparsity_core.repairs.repair import REPAIRS, Damage, LayerRepair
from sparsity_core.selection import keep_best
from sparsity_core.structures import NofM, Unstructured, from_inputs_last, inputs_last
from sparsity_core.weights import Prunable

# Which weights of some columns stay, from their saliencies (rows, columns).
Choice = Callable[[Tensor, slice], Tensor]


@REPAIRS.register("sparsegpt")
@dataclass(frozen=True)
class SparseGPT(LayerRepair):
    """Column by column: a pruned weight's error err = w / U_ii is spread over columns to the right.

    U is the upper Cholesky factor of the inverse of H = mean of x x^T, to whose diagonal `damping`
    of its mean is added; w_j -= err * U_ij. With `choose` the mask is chosen anew on the way, by
    w^2 / U_ii^2 over each block of `block` columns and all rows, or in each group for n:m, as many
    weights as before in all; other structures keep their mask. Starts from the weights before
    pruning, so it comes first among repairs. Inputs that are always zero lose their weights.
    Columns run over inputs within kernel positions. Source: Frantar & Alistarh 2023, arXiv
    2301.00774.
    """

    block: int = 128
    damping: float = 0.01
    choose: bool = True

    def __post_init__(self) -> None:
        if self.block < 1:
            raise SparsityError(f"sparsegpt: block must be 1 or more, got {self.block}")
        if not self.damping >= 0:
            raise SparsityError(f"sparsegpt: damping must be 0 or more, got {self.damping}")

    def mend_(self, layer: Prunable, model: nn.Module, damage: Damage) -> Tensor:
        """Sweep the columns of each part of the layer; returns the mask, as given or chosen."""
        given = damage.masks[layer.name]
        weight = model.get_parameter(layer.name)
        before = inputs_last(damage.dense_weight(layer.name)).double()
        mended, kept = inputs_last(weight).double(), inputs_last(given).clone()
        columns = inputs_last(torch.arange(before.shape[1]).reshape(1, *layer.shape[1:]))[0]
        for part in input_moments(model, layer.name, damage.batches):
            second = part.second[columns][:, columns]
            living = before[part.rows].masked_fill(second.diagonal() == 0, 0)
            choice, every = self._choice(living, kept[part.rows], damage)
            root = inverse_root(layer.name, second, self.damping)
            swept = sweep(living, root, choice, every, max(self.block // every, 1) * every)
            mended[part.rows], kept[part.rows] = swept.weight, swept.kept
        weight.copy_(from_inputs_last(mended, layer.shape))
        return from_inputs_last(kept, layer.shape)

    def _choice(self, weight: Tensor, kept: Tensor, damage: Damage) -> tuple[Choice, int]:
        """How columns are chosen, and how many at a time."""
        # Weights that an earlier round took are zero, and stay pruned.
        gone = ~kept & (weight == 0)
        structure = damage.structure
        if self.choose and isinstance(structure, NofM) and not kept.all():
            return _best_of_each_group(structure, gone), structure.m
        if self.choose and isinstance(structure, Unstructured):
            return _best_of_block(gone, int((~kept).sum())), self.block
        return lambda _, columns: kept[:, columns], self.block


class Swept(NamedTuple):
    """What a sweep leaves behind."""

    weight: Tensor
    kept: Tensor
    error: float  # mean squared change of the outputs, summed over rows; without damping, exactly


def sweep(weight: Tensor, root: Tensor, choice: Choice, every: int, block: int) -> Swept:
    """Prune a matrix (rows, K) from left to right; `root` is `inverse_root` of its inputs.

    `choice` is asked every `every` columns; updates reach beyond the block at its end only.
    """
    weight = weight.clone()
    kept = torch.ones_like(weight, dtype=torch.bool)
    error = 0.0
    for start in range(0, weight.shape[1], block):
        inside = slice(start, min(start + block, weight.shape[1]))
        errors = torch.zeros_like(weight[:, inside])
        for i in range(inside.start, inside.stop):
            if (i - start) % every == 0:
                ahead = slice(i, min(i + every, inside.stop))
                saliency = (weight[:, ahead] / root.diagonal()[ahead]).square()
                kept[:, ahead] = choice(saliency, ahead)
            lost = torch.where(kept[:, i], 0, weight[:, i]) / root[i, i]
            weight[:, i : inside.stop] -= torch.outer(lost, root[i, i : inside.stop])
            errors[:, i - start] = lost
        weight[:, inside.stop :] -= errors @ root[inside, inside.stop :]
        error += errors.square().sum().item()
    return Swept(weight.masked_fill(~kept, 0), kept, error)


def _best_of_each_group(structure: NofM, gone: Tensor) -> Choice:
    def choose(saliency: Tensor, columns: slice) -> Tensor:
        groups = structure.units(saliency.masked_fill(gone[:, columns], -torch.inf))
        return structure.choose(groups, structure.fixed_sparsity).reshape(saliency.shape)

    return choose


def _best_of_block(gone: Tensor, pruned: int) -> Choice:
    """The lowest of each block go: its share, so that `pruned` weights go in all."""
    free = (~gone).sum(0).cumsum(0)
    fresh = pruned - int(gone.sum())
    # How many have gone by the end of each column, rounded so that the last is exact.
    by_column = gone.sum(0).cumsum(0) + (2 * fresh * free + free[-1]) // (2 * free[-1].clamp(min=1))

    def choose(saliency: Tensor, columns: slice) -> Tensor:
        before = int(by_column[columns.start - 1]) if columns.start else 0
        due = int(by_column[columns.stop - 1]) - before
        scores = saliency.masked_fill(gone[:, columns], -torch.inf)
        return keep_best(scores.reshape(-1), due).reshape(saliency.shape)

    return choose
