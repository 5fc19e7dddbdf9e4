"""Rules that keep all weights and multiply by something sparser in their place."""

from abc import abstractmethod

import torch
from torch import Tensor

from sparsity_core.dynamic.rule import Clock, Counts, Report, State, UpdateRule, all_live
from sparsity_core.weights import Masks, Weights


class ForwardRule(UpdateRule):
    """Says what the forward pass uses of a weight, and how the gradient of that comes back.

    `learned` is what a layer learns besides its weight, such as a threshold, or None.
    """

    learned_decays = False  # does weight decay reach what is learned besides?

    def due(self, clock: Clock) -> bool:  # noqa: ARG002
        """Never: what lives follows from the weights at every step."""
        return False

    def update(self, state: State) -> tuple[Masks, Report]:
        """The masks as they are."""
        return dict(state.masks), Report()

    def first(self, weights: Weights, kept: Counts, seed: int) -> Masks:  # noqa: ARG002
        """Everything lives."""
        return all_live(weights)

    def learned(self, weight: Tensor) -> Tensor | None:  # noqa: ARG002
        """What the layer learns besides, before the first step."""
        return None

    def settled(self, weight: Tensor, learned: Tensor) -> Tensor:  # noqa: ARG002
        """What is learned besides, put right before a step."""
        return learned

    @abstractmethod
    def used(self, weight: Tensor, mask: Tensor, learned: Tensor | None) -> Tensor:
        """What the forward pass multiplies by."""

    @abstractmethod
    def gradients(
        self,
        gradient: Tensor,
        weight: Tensor,
        mask: Tensor,
        learned: Tensor | None,
        clock: Clock,
    ) -> tuple[Tensor, Tensor | None]:
        """Of the weight and of what is learned besides, from the gradient of what was used."""

    def live(self, weight: Tensor, mask: Tensor, learned: Tensor | None) -> Tensor:
        """True where the forward pass uses something."""
        return self.used(weight, mask, learned) != 0

    def trained(self, weight: Tensor, mask: Tensor, kept: int, clock: Clock) -> Tensor:  # noqa: ARG002
        """True where the optimizer may change the weight; asked anew when masks change."""
        return torch.ones_like(mask)

    def training_macs(self, live: float, dense: float, clock: Clock) -> float:  # noqa: ARG002
        """Sparse forward and sparse backward by the inputs, dense by the weights."""
        return 2 * live + dense
