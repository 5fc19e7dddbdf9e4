"""Sparse momentum: weights move to the layers and places where the gradient keeps its direction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sparsity_core.allocations.allocation import whole_weights
from sparsity_core.dynamic.exchange import highest, without_smallest
from sparsity_core.dynamic.rule import RULES, Clock, Report, State, check_all_finite
from sparsity_core.dynamic.timing import Periodic, cosine_share
from sparsity_core.errors import SparsityError
from sparsity_core.weights import Masks


@RULES.register("sparse-momentum")
@dataclass(frozen=True)
class SparseMomentum(Periodic):
    """After each epoch a share of each layer's smallest weights goes, and as many come where the
    momentum of dead places is largest, over the layers in proportion to their mean |momentum|.

    The share falls along a cosine from `drop` to `least`. It keeps a momentum of dense gradients
    beside the optimizer's, so each step computes them. Source: Dettmers & Zettlemoyer 2019, arXiv
    1907.04840.
    """

    averages_gradients: ClassVar[float] = 0.9
    every: int = 0
    until: float = 1.0
    drop: float = 0.5
    least: float = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.least <= self.drop <= 1:
            raise SparsityError(
                f"least and drop must be shares, 0 <= least <= drop <= 1, got {self.least!r} and "
                f"{self.drop!r}"
            )

    def share(self, clock: Clock) -> float:
        """Of the live weights that move at this step."""
        return self.least + cosine_share(self.drop - self.least, clock.step, self.end(clock))

    def update(self, state: State) -> tuple[Masks, Report]:
        """The sum over layers stays exact; each layer's own count moves."""
        check_all_finite(state.averages, "gradients")
        check_all_finite(state.weights, "weights")
        left, momentum, freed = {}, {}, 0
        for name, mask in state.masks.items():
            left[name], count = without_smallest(mask, state.weights[name], self.share(state.clock))
            freed += count
            live = state.averages[name].abs()[left[name]]
            momentum[name] = live.mean(dtype=float).item() if len(live) else 0.0  # type: ignore[call-overload]
        room = {name: mask.numel() - int(mask.sum()) for name, mask in left.items()}
        growing = shared_out(freed, momentum, room)
        return {
            name: mask | highest(state.averages[name].abs(), ~mask, growing[name])
            for name, mask in left.items()
        }, Report()

    def training_macs(self, live: float, dense: float, clock: Clock) -> float:  # noqa: ARG002
        """Dense gradients by the weights in every step."""
        return 2 * live + dense


def shared_out(total: int, weights: Mapping[str, float], room: Mapping[str, int]) -> dict[str, int]:
    """`total` in proportion to weights, whole and exact, to no one more than there is room for.

    What one has no room for goes to the others; without any weight, room decides.
    """
    given = dict.fromkeys(room, 0)
    while left := total - sum(given.values()):
        free = {n: weights[n] for n in room if given[n] < room[n]}
        if not any(free.values()):
            free = {n: float(room[n] - given[n]) for n in free}
        scale = left / sum(free.values())
        shares = whole_weights({n: scale * weight for n, weight in free.items()}, left)
        for name, share in shares.items():
            given[name] = min(given[name] + share, room[name])
    return given
