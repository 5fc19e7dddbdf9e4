"""What a course does under a rule that keeps all weights and multiplies by sparser ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sparsity_core.dynamic.forward import ForwardRule
from sparsity_core.dynamic.rule import Clock, Counts
from sparsity_core.weights import Masks


class AllWeights:
    """The layers under a `ForwardRule`: what is used of them, learned besides, and trained.

    `live` is True where the forward pass uses something; the course keeps it.
    """

    def __init__(self, rule: ForwardRule, layers: Mapping[str, nn.Parameter], kept: Counts) -> None:
        self.rule, self.layers, self.kept = rule, layers, kept
        self.learned: dict[str, nn.Parameter] = {}  # as thresholds are, for some layers
        for name, parameter in layers.items():
            if (value := rule.learned(parameter.data)) is not None:
                self.learned[name] = nn.Parameter(value)
        self.trained: Masks = {}  # where the optimizer may change a weight
        self._untrained: dict[str, Tensor] = {}  # layers before a step that trains part of them

    @contextmanager
    def in_use(self, live: Masks) -> Iterator[None]:
        """The model with the weights that the forward pass uses, and no others."""
        all_of_them = {name: parameter.data for name, parameter in self.layers.items()}
        try:
            for name, parameter in self.layers.items():
                parameter.data = self.rule.used(
                    all_of_them[name], live[name], self._learned_of(name)
                )
            yield
        finally:
            for name, parameter in self.layers.items():
                parameter.data = all_of_them[name]

    def live(self, before: Masks) -> Masks:
        """What lives now, since it follows from the weights."""
        return {
            name: self.rule.live(parameter.data, before[name], self._learned_of(name))
            for name, parameter in self.layers.items()
        }

    def choose_trained_(self, live: Masks, clock: Clock) -> None:
        """Ask the rule anew, since masks have changed."""
        self.trained = {
            name: self.rule.trained(parameter.data, live[name], self.kept[name], clock)
            for name, parameter in self.layers.items()
        }

    def before_step_(self, live: Masks, clock: Clock) -> None:
        """Turn gradients of what was used into those of the weights and of what is learned."""
        for name, parameter in self.layers.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            learned = self._learned_of(name)
            own, besides = self.rule.gradients(gradient, parameter.data, live[name], learned, clock)
            trained = self.trained[name]
            if not trained.all():
                own = own.masked_fill(~trained, 0)
                self._untrained[name] = parameter.data.clone()
            parameter.grad = own
            if besides is not None:
                self.learned[name].grad = besides

    @torch.no_grad()
    def after_step_(self) -> None:
        """Put back what neither decay nor momentum may move, and settle what is learned."""
        for name, before in self._untrained.items():
            self.layers[name].copy_(torch.where(self.trained[name], self.layers[name], before))
        self._untrained = {}
        for name, value in self.learned.items():
            value.data = self.rule.settled(self.layers[name].data, value.data)

    def _learned_of(self, name: str) -> Tensor | None:
        return self.learned[name].data if name in self.learned else None
