"""How much two masks have in common, beside chance."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sparsity_core.errors import SparsityError


@dataclass(frozen=True)
class Overlap:
    """Of one layer."""

    shared: float  # of the weights that stay in the first mask, those that stay in the second too
    chance: float  # what a shuffled second mask would share: the share of weights that stay in it


def overlap(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Overlap]:
    """Layer by layer; raises SparsityError for masks of different layers or an empty first one."""
    if set(one) != set(other):
        raise SparsityError("the masks are of different layers; compare masks of one model")
    found = {}
    for name, mask in one.items():
        kept = int(mask.sum())
        if not kept:
            raise SparsityError(f"{name}: the first mask leaves nothing to share")
        both = int((mask & other[name]).sum())
        found[name] = Overlap(both / kept, float(other[name].double().mean()))
    return found
