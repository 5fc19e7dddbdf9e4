"""Top-KAST: the forward pass uses the largest weights, the backward pass trains some more."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_core.dynamic.exchange import highest
from sparsity_core.dynamic.forward import ForwardRule
from sparsity_core.dynamic.rule import (
    RULES,
    Clock,
    Counts,
    Report,
    State,
    check_all_finite,
)
from sparsity_core.dynamic.timing import Periodic
from sparsity_core.errors import SparsityError
from sparsity_core.weights import Masks, Weights


@RULES.register("top-kast")
@dataclass(frozen=True)
class TopKast(Periodic, ForwardRule):
    """Forward with the largest weights A of each layer, trained are those and the next ones, B.

    B has (1 + reserve) times as many; weights outside of it stand still, and nothing is set to
    zero. The loss has `decay` times the squares of A and, divided by A's density, of the rest of B:
    so a weight that is not used shrinks unless its gradient holds against it. A and B are chosen
    anew every so many steps; from `until` on B is A. Source: Jayakumar et al. 2020, arXiv
    2106.03517.
    """

    reserve: float = 1.0
    decay: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reserve < 0 or self.decay < 0:
            raise SparsityError("top-kast: reserve and decay must be 0 or more")

    def due(self, clock: Clock) -> bool:
        """Every so often, and once more at the end."""
        return super().due(clock) or 0 < clock.step == self.end(clock)

    def first(self, weights: Weights, kept: Counts, seed: int) -> Masks:  # noqa: ARG002
        """The largest of the first weights."""
        return _largest(weights, kept)

    def update(self, state: State) -> tuple[Masks, Report]:
        """The largest now."""
        check_all_finite(state.weights, "weights")
        return _largest(state.weights, state.kept), Report()

    def used(self, weight: Tensor, mask: Tensor, learned: Tensor | None) -> Tensor:  # noqa: ARG002
        """The weights of A."""
        return weight.masked_fill(~mask, 0)

    def live(self, weight: Tensor, mask: Tensor, learned: Tensor | None) -> Tensor:  # noqa: ARG002
        """A."""
        return mask

    def trained(self, weight: Tensor, mask: Tensor, kept: int, clock: Clock) -> Tensor:
        """B: A at the end."""
        if clock.step >= self.end(clock):
            return mask
        more = min(mask.numel(), kept + round(self.reserve * kept))
        return highest(weight.abs(), torch.ones_like(mask), more)

    def gradients(
        self,
        gradient: Tensor,
        weight: Tensor,
        mask: Tensor,
        learned: Tensor | None,  # noqa: ARG002
        clock: Clock,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor | None]:
        """The gradient with that of the penalty; B is taken of it by whoever trains."""
        if not self.decay:
            return gradient, None
        density = max(int(mask.sum()), 1) / mask.numel()
        strength = torch.where(mask, 2 * self.decay, 2 * self.decay / density)
        return torch.addcmul(gradient, strength, weight), None

    def training_macs(self, live: float, dense: float, clock: Clock) -> float:
        """Forward and backward by the inputs with A, by the weights with B."""
        trained = live if clock.step >= self.end(clock) else min(dense, (1 + self.reserve) * live)
        return 2 * live + trained


def penalty(weight: Tensor, used: Tensor, trained: Tensor, power: int = 2) -> Tensor:
    """Sum of |w|^power over `used`, and over the rest of `trained` divided by the used density."""
    each = weight.abs() ** power
    density = used.double().mean()
    return each[used].sum() + each[trained & ~used].sum() / density


def _largest(weights: Weights, kept: Counts) -> Masks:
    return {
        name: highest(weight.abs(), torch.ones_like(weight, dtype=torch.bool), kept[name])
        for name, weight in weights.items()
    }
