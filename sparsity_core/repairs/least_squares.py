"""Least squares: the weights that stay, fitted to the outputs that the dense layer gave."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.moments import cholesky, paired_moments, ridge
from sparsity_core.repairs.repair import REPAIRS, Damage, LayerRepair, settle_biases_
from sparsity_core.weights import Prunable


@REPAIRS.register("least-squares")
@dataclass(frozen=True)
class LeastSquares(LayerRepair):
    """Each row's weights that stay minimise the mean of (y - x w)^2 + ridge * |w - w_now|^2.

    y are the dense model's outputs on its own inputs, x the inputs in the model as mended so far;
    a bias is fitted along. The ridge, `damping` times the mean square of the inputs, pulls towards
    the weights as they are, so the error never grows on these samples. Rows that keep the same
    inputs (channels) are solved together, others one by one, which takes time in wide layers.
    Source: reconstruction as in He et al. 2017, arXiv 1707.06168, and Luo et al. 2017 (ThiNet),
    arXiv 1707.06342.
    """

    damping: float = 0.01

    def __post_init__(self) -> None:
        if not self.damping >= 0:
            raise SparsityError(f"least-squares: damping must be 0 or more, got {self.damping}")

    def mend_(self, layer: Prunable, model: nn.Module, damage: Damage) -> Tensor:
        """Solve each part of the layer; returns the mask as given."""
        mask = damage.masks[layer.name]
        weight = model.get_parameter(layer.name)
        dense = damage.dense_weight(layer.name).flatten(1).double()
        mended = weight.flatten(1).double()
        for part in paired_moments(model, damage.dense, layer.name, damage.batches):
            rows, second, cross = part.rows, part.second, part.cross
            if layer.biases:  # which take up the means, so only what varies is left to fit
                second = second - torch.outer(part.mean, part.mean)
                cross = cross - torch.outer(part.mean, part.other_mean)
            wanted = dense[rows] @ cross.T
            kept = mask.flatten(1)[rows]
            mended[rows] = fit(layer.name, second, wanted, mended[rows], kept, self.damping)
            shift = dense[rows] @ part.other_mean - mended[rows] @ part.mean
            settle_biases_(model, layer, rows, shift, damage)
        weight.copy_(mended.reshape(layer.shape))
        return mask


def fit(
    name: str, second: Tensor, wanted: Tensor, now: Tensor, kept: Tensor, damping: float
) -> Tensor:
    """Rows w (rows, K) with w second = wanted on the columns that `kept` says; zero elsewhere."""
    pull = ridge(second, damping)
    damped, goal = second + torch.diag(pull), wanted + now * pull
    found = torch.zeros_like(now)
    supports, members = kept.unique(dim=0, return_inverse=True)
    for i, support in enumerate(supports):
        if support.any():
            rows, columns = (members == i).nonzero(), support.nonzero()[:, 0]
            factor = cholesky(name, damped[columns][:, columns])
            found[rows, columns] = torch.cholesky_solve(goal[rows, columns].T, factor).T
    return found
