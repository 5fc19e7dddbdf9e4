"""Which weights go and which come: exact counts, stable ties, no loop over weights.

Masks may have any shape; `among` is True where there is a choice. Among equals the first in memory
stay alive: they are the last to be dropped and the first to be grown.
"""

import numpy as np
import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.selection import how_many


def highest(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """True for the `count` highest scores among the candidates; scores are finite."""
    return _highest(scores, among, count, _check(among, count))


def lowest(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """True for the `count` lowest scores among the candidates; scores are finite."""
    there = _check(among, count)
    return among & ~_highest(scores, among, there - count, there)


def without_smallest(mask: Tensor, weight: Tensor, share: float) -> tuple[Tensor, int]:
    """The mask without floor(share x live) of the smallest weights, and how many those are."""
    count = int(share * how_many(mask))
    return mask & ~lowest(weight.abs(), mask, count), count


def drawn(among: Tensor, count: int, make: torch.Generator) -> Tensor:
    """True for `count` candidates drawn without replacement."""
    _check(among, count)
    chosen = torch.zeros_like(among)
    places = among.reshape(-1).nonzero().squeeze(1)
    order = torch.randperm(len(places), generator=make)[:count].to(among.device)
    chosen.view(-1)[places[order]] = True
    return chosen


def highest_in_rows(scores: Tensor, among: Tensor, counts: Tensor) -> Tensor:
    """True for the `counts[i]` highest scores among the candidates of row i, or all there are.

    scores, among: (rows, columns); counts: (rows,).
    """
    ranked = (
        scores.masked_fill(~among, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    )
    places = torch.arange(scores.shape[1], device=scores.device)
    chosen = torch.zeros_like(among).scatter_(1, ranked, places < counts[:, None])
    return chosen & among


def drawn_in_rows(shape: tuple[int, int], counts: Tensor, make: torch.Generator) -> Tensor:
    """True for `counts[i]` places of row i, drawn without replacement."""
    order = torch.rand(shape, generator=make, dtype=torch.float64)
    return highest_in_rows(order, torch.ones(shape, dtype=torch.bool), counts)


def _highest(scores: Tensor, among: Tensor, count: int, there: int) -> Tensor:
    if not count:
        return torch.zeros_like(among)
    if 4 * there < among.numel():
        places = among.reshape(-1).nonzero().squeeze(1)
        best = places[_best(scores.reshape(-1)[places], count)]
        return torch.zeros_like(among).view(-1).index_fill_(0, best, True).view(among.shape)
    # When most are candidates, passes over all are quicker than collecting them and dealing the
    # choice out again.
    flat = torch.where(among, scores, -torch.inf).reshape(-1)
    return _best(flat, count).reshape(among.shape)


def _best(flat: Tensor, count: int) -> Tensor:
    """True for the `count` highest of (n,) scores, of which so many are above -infinity."""
    lowest_kept = _in_order(flat, len(flat) - count)
    above, ties = flat > lowest_kept, flat == lowest_kept
    room = count - how_many(above)
    if room == how_many(ties):
        return above | ties
    return above | (ties & (ties.cumsum(0) <= room))


def _in_order(flat: Tensor, place: int) -> Tensor:
    """What stands at a place, from 0, when (n,) scores ascend."""
    if flat.is_cpu and flat.dtype in (torch.float32, torch.float64):
        # A tenth of kthvalue's time: that one moves all indices along.
        return flat.new_tensor(np.partition(flat.detach().numpy(), place)[place])
    return flat.kthvalue(place + 1).values


def _check(among: Tensor, count: int) -> int:
    """How many candidates there are."""
    there = how_many(among)
    if not 0 <= count <= there:
        raise SparsityError(f"asked for {count} of {there} weights; ask for 0 to {there}")
    return there
