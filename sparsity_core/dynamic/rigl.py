"""The rigged lottery: weights grow where the gradient is largest."""

from dataclasses import dataclass
from typing import ClassVar

from sparsity_core.dynamic.exchange import highest, without_smallest
from sparsity_core.dynamic.rule import RULES, Report, State, check_all_finite
from sparsity_core.dynamic.timing import Exchanging
from sparsity_core.weights import Masks


@RULES.register("rigl")
@dataclass(frozen=True)
class RigL(Exchanging):
    """The smallest weights go, and as many come where the dense gradient is largest.

    floor(share x live) of each layer move, the share falling along a cosine. Candidates are all
    places that are not kept: one just emptied may come back and then keeps its weight; others
    start at 0. The batch of an update makes no step. The first update is at step `every`. Source:
    Evci et al. 2020, arXiv 1911.11134, algorithm 1.
    """

    layerwise: ClassVar[bool] = True

    @property
    def needs_gradients(self) -> bool:
        """Dense ones, of the batch of the update alone."""
        return True

    def update(self, state: State) -> tuple[Masks, Report]:
        """As many die as are born in each layer."""
        check_all_finite(state.gradients, "gradients")
        check_all_finite(state.weights, "weights")
        masks = {}
        for name, mask in state.masks.items():
            kept, count = without_smallest(mask, state.weights[name], self.share(state.clock))
            masks[name] = kept | highest(state.gradients[name].abs(), ~kept, count)
        return masks, Report()
