"""Sparse evolutionary training: small weights go, new ones come anywhere."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.dynamic.exchange import drawn, lowest, without_smallest
from sparsity_core.dynamic.rule import RULES, Report, State
from sparsity_core.dynamic.timing import Exchanging, Periodic
from sparsity_core.weights import Masks, check_finite

_SPREAD = 0.1  # of newborn weights


@RULES.register("set")
@dataclass(frozen=True)
class Evolution(Periodic):
    """SET: after each epoch, a share of the smallest positive and of the largest negative weights
    goes, and as many come at random.

    Each sign loses floor(drop x its count), and live zeros go too. New places are any that are
    not kept, those just emptied among them; their values are N(0, 0.1^2). Source: Mocanu et al.
    2018, arXiv 1707.04780, and its code.
    """

    layerwise: ClassVar[bool] = True
    every: int = 0
    until: float = 1.0
    drop: float = 0.3

    def update(self, state: State) -> tuple[Masks, Report]:
        """As many die as are born in each layer."""
        masks, reborn = {}, {}
        for name, mask in state.masks.items():
            weight = state.weights[name]
            check_finite(name, weight)
            dropped = mask & (weight == 0)
            for side in (mask & (weight > 0), mask & (weight < 0)):
                dropped |= lowest(weight.abs(), side, int(self.drop * int(side.sum())))
            kept = mask & ~dropped
            grown = drawn(~kept, int(dropped.sum()), state.generator(name))
            masks[name] = kept | grown
            reborn[name] = grown & mask
        return masks, Report(reborn)

    def newborn(self, shape: tuple[int, ...], make: torch.Generator) -> Tensor:
        """N(0, 0.1^2)."""
        return _SPREAD * torch.randn(shape, generator=make)


@RULES.register("set-rigl")
@dataclass(frozen=True)
class RandomGrowth(Exchanging):
    """SET as the RigL paper compares with: the smallest weights of a layer go, a share that falls
    along a cosine, and as many come at random, with the value 0.

    A place that is emptied and drawn again keeps its weight. Source: Evci et al. 2020,
    arXiv 1911.11134.
    """

    layerwise: ClassVar[bool] = True

    def update(self, state: State) -> tuple[Masks, Report]:
        """floor(share x live) of each layer move."""
        masks = {}
        for name, mask in state.masks.items():
            check_finite(name, state.weights[name])
            kept, count = without_smallest(mask, state.weights[name], self.share(state.clock))
            masks[name] = kept | drawn(~kept, count, state.generator(name))
        return masks, Report()
