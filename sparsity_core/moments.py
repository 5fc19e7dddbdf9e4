"""What enters a layer, averaged over samples and positions: means and second moments.

One layer at a time: memory is a few matrices of inputs x inputs, however large the model is.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.trace import Use, eval_mode, watch
from sparsity_core.weights import check_finite

Batches = Iterable[tuple[Tensor, Tensor]]  # inputs, targets
Inputs = tuple[slice, Tensor]  # rows of a weight, and what they are multiplied by: (positions, K)
Averages = tuple[slice, int, list[Tensor]]  # rows, positions, means over them

_AT_ONCE = 32  # samples in a forward pass: their patches are in memory together
_SINGULAR = 1e-12  # share of an input's square that the inputs before it leave unexplained


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the inputs x of some rows of a weight; float64, K = weights in a row."""

    rows: slice
    count: int  # samples times positions
    mean: Tensor  # (K,)
    second: Tensor  # (K, K): mean of x x^T


@dataclass(frozen=True, eq=False)
class PairedMoments(Moments):
    """Beside the inputs d that another model of the same layers has at the same places."""

    other_mean: Tensor  # (K,)
    cross: Tensor  # (K, K): mean of x d^T


def layer_inputs(model: nn.Module, name: str, batches: Batches) -> Iterator[Inputs]:
    """What a weight is multiplied by, use after use, in the order of `weight.flatten(1)`.

    A convolution in groups has one entry for the rows of each group. The model runs in eval mode.
    float32, or float64 for a model in float64.
    """
    for inputs, _ in batches:
        for some in inputs.split(_AT_ONCE):
            found: list[Inputs] = []
            with eval_mode(model), torch.no_grad(), watch(model, _collect(name, found)):
                model(some)
            yield from found


def input_means(model: nn.Module, name: str, batches: Batches) -> list[Inputs]:
    """The mean input (K,) of each set of rows, float64; raises as `input_moments` does."""
    uses = layer_inputs(model, name, batches)
    parts = ((rows, len(x), [_mean(x)]) for rows, x in uses)
    return [(rows, mean) for rows, _, [mean] in _averages(name, parts)]


def input_moments(model: nn.Module, name: str, batches: Batches) -> list[Moments]:
    """Moments of each set of rows: one entry a group, or a part of fused weights.

    Empty for a layer that is never used. Products are summed in float32 within 32 samples, in
    float64 beyond. Raises NonFiniteError for inputs that are not finite, SparsityError when rows
    are used in parts that overlap.
    """
    uses = layer_inputs(model, name, batches)
    parts = ((rows, len(x), [_mean(x), _product(x, x)]) for rows, x in uses)
    return [Moments(rows, count, *tensors) for rows, count, tensors in _averages(name, parts)]


def paired_moments(
    model: nn.Module, other: nn.Module, name: str, batches: Batches
) -> list[PairedMoments]:
    """As `input_moments`, and how the inputs go together with those of `other`."""
    pairs = zip(layer_inputs(model, name, batches), layer_inputs(other, name, batches), strict=True)
    parts = (
        (rows, len(x), [_mean(x), _product(x, x), _mean(d), _product(x, d)])
        for (rows, x), (_, d) in pairs
    )
    return [PairedMoments(rows, count, *tensors) for rows, count, tensors in _averages(name, parts)]


def ridge(second: Tensor, damping: float) -> Tensor:
    """What to add to the diagonal: `damping` times its mean; 1 for inputs that are always zero."""
    energy = second.diagonal()
    alive = energy > 0
    mean = energy[alive].mean() if alive.any() else energy.new_ones(())
    return torch.where(alive, damping * mean, 1)


def cholesky(name: str, matrix: Tensor) -> Tensor:
    """Lower L with L L^T = matrix; SparsityError with the remedy when it is singular."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    unexplained = factor.diagonal().square() / matrix.diagonal()
    if failed or not (unexplained > _SINGULAR).all():
        raise SparsityError(
            f"{name}: the second moments of its inputs are singular, so some inputs follow from "
            "others; give more samples or a damping above 0"
        )
    return factor


def inverse_root(name: str, second: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor U of the damped inverse: U^T U = (second + ridge)^-1.

    Inputs that are always zero have U_ii = 1 and nothing in common with others.
    """
    damped = second + torch.diag(ridge(second, damping))
    # Factored from the last column on, matrix = R R^T with R upper, and U is the inverse of R.
    upper = cholesky(name, damped.flip(0, 1)).flip(0, 1)
    identity = torch.eye(len(second), dtype=second.dtype, device=second.device)
    return torch.linalg.solve_triangular(upper, identity, upper=True)


def _collect(name: str, found: list[Inputs]) -> Callable[[Use], None]:
    def add(use: Use) -> None:
        if use.name != name:
            return
        patches = use.patches()
        rows = (use.rows.stop - use.rows.start) // len(patches)
        for group, x in enumerate(patches):
            first = use.rows.start + group * rows
            precise = torch.promote_types(x.dtype, torch.float32)
            found.append((slice(first, first + rows), x.to(precise)))

    return add


def _mean(x: Tensor) -> Tensor:
    return x.mean(0, dtype=torch.float64)


def _product(x: Tensor, y: Tensor) -> Tensor:
    return (x.mT @ y).double() / len(x)


def _averages(name: str, parts: Iterable[Averages]) -> list[Averages]:
    """The averages of each set of rows over all its uses."""
    found: dict[tuple[int, int], tuple[int, list[Tensor]]] = {}
    for rows, count, tensors in parts:
        span = (rows.start, rows.stop)
        before, old = found.get(span, (0, tensors))
        share = count / (before + count)
        merged = [torch.lerp(a, b, share) for a, b in zip(old, tensors, strict=True)]
        found[span] = before + count, merged
    for (start, stop), (other, end) in pairwise(sorted(found)):
        if other < stop:
            raise SparsityError(
                f"{name}: rows {start} to {stop} and rows {other} to {end} are used apart "
                "although they overlap; skip this layer"
            )
    for _, tensors in found.values():
        for tensor in tensors:
            check_finite(name, tensor, "moments of inputs")
    return [(slice(*span), *found[span]) for span in sorted(found)]
