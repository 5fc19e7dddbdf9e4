"""Which of many go: exact counts, by index and never by a threshold."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_CHUNK = 2**20  # units looked up at a time


def how_many(mask: Tensor) -> int:
    """How many elements of a Boolean tensor are True."""
    if mask.is_cpu:  # 17 us for 300 x 784, where torch takes 105
        return int(np.count_nonzero(mask.numpy()))
    return int(mask.count_nonzero())


def count_pruned(units: int, sparsity: float) -> int:
    """How many of `units` go: the count nearest to the request, a half keeps one more.

    The last unit goes only when sparsity 1 is asked for: rounding never empties a layer.
    """
    if sparsity >= 1:
        return units
    # Rounded first, since 0.29 * 100 is 28.999999999999996.
    return max(0, min(math.ceil(round(units * sparsity, 6) - 0.5), units - 1))


def keep_best(units: Tensor, pruned: int) -> Tensor:
    """True for all but the `pruned` lowest units of the last axis; among equals the first stay.

    Counts are exact, and a higher sparsity keeps a subset. As a stable sort would choose, in a
    tenth of its time: 0.1 s for 5 million units.
    """
    count = units.shape[-1]
    if not 0 < pruned < count:
        return torch.full_like(units, pruned <= 0, dtype=torch.bool)
    if units.dim() == 1 and (living := ~units.isneginf()).logical_not().any():
        # Late in a schedule nearly all are dead, and need no ranking.
        dead = count - int(living.sum())
        if dead <= pruned:
            kept = torch.zeros_like(living)
            kept[living] = keep_best(units[living], pruned - dead)
            return kept
    lowest_kept = units.kthvalue(pruned + 1, dim=-1, keepdim=True).values
    above, ties = units > lowest_kept, units == lowest_kept
    room = count - pruned - above.sum(-1, keepdim=True)
    if torch.equal(ties.sum(-1, keepdim=True), room):
        return above | ties
    return above | (ties & (ties.cumsum(-1) <= room))


def rank_codes(units: Tensor, pruned: Sequence[int]) -> Tensor:
    """At how many levels each unit stays, (n,) of one byte, from one partition of the units (n,).

    `pruned`: how many of the lowest go at each level, ascending, at most 255 levels. Where
    `code > k` is the mask of level k, the same as `keep_best` chooses; NaN is in no order.
    """
    units = units.detach().cpu()
    count = len(units)
    places = [p for p in pruned if 0 < p < count]
    kept_at_all = sum(p <= 0 for p in pruned)
    codes = torch.full((count,), kept_at_all, dtype=torch.uint8)
    if not places:
        return codes
    lowest_kept = torch.from_numpy(np.partition(units.numpy(), places)[places])
    for some, of_some in zip(units.split(_CHUNK), codes.split(_CHUNK), strict=True):
        of_some += torch.bucketize(some, lowest_kept, out_int32=True, right=True).to(torch.uint8)
    held = np.bincount(codes.numpy(), minlength=256)
    for k, (place, lowest) in enumerate(zip(places, lowest_kept.tolist(), strict=True)):
        if excess := int(held[kept_at_all + k + 1 :].sum()) - (count - place):
            ties = (units == lowest).nonzero()[:, 0]
            codes[ties[len(ties) - excess :]] -= 1  # among equals the first stay
    return codes
