"""Dynamic sparse training with a learned threshold for each neuron."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.dynamic.forward import ForwardRule
from sparsity_core.dynamic.rule import RULES, Clock
from sparsity_core.errors import SparsityError

_EMPTY = 0.01  # a layer that keeps no more than this begins again with thresholds of 0


@RULES.register("dst")
@dataclass(frozen=True)
class NeuronThresholds(ForwardRule):
    """Weights above a learned threshold t of their neuron are used as they are, the others not.

    The step has the long-tailed estimate of its slope; the loss has `penalty` times the sum of
    exp(-t), which drives thresholds up, so sparsity is an outcome. A layer left with 1 % or less
    begins again with t = 0. Source: Liu et al. 2020, arXiv 2005.06870.
    """

    learns_sparsity: ClassVar[bool] = True
    penalty: float = 5e-4

    def __post_init__(self) -> None:
        if self.penalty < 0:
            raise SparsityError(f"dst: penalty must be 0 or more, got {self.penalty!r}")

    def learned(self, weight: Tensor) -> Tensor:
        """One threshold a neuron: (outputs,), zeros."""
        return torch.zeros(len(weight), device=weight.device)

    def settled(self, weight: Tensor, learned: Tensor) -> Tensor:
        """Zeros when hardly anything is left."""
        share = (_above(weight, learned) > 0).float().mean()
        return torch.where(share <= _EMPTY, torch.zeros_like(learned), learned)

    def used(self, weight: Tensor, mask: Tensor, learned: Tensor | None) -> Tensor:  # noqa: ARG002
        """Weights above their threshold."""
        assert learned is not None
        return weight.masked_fill(_above(weight, learned) <= 0, 0)

    def gradients(
        self,
        gradient: Tensor,
        weight: Tensor,
        mask: Tensor,  # noqa: ARG002
        learned: Tensor | None,
        clock: Clock,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Through the product of weight and step."""
        assert learned is not None
        above = _above(weight, learned)
        by_step = gradient * weight * long_tailed(above)  # dL/d(|w| - t)
        by_weight = gradient.masked_fill(above <= 0, 0) + by_step * weight.sign()
        by_threshold = -by_step.flatten(1).sum(1) - self.penalty * torch.exp(-learned)
        return by_weight, by_threshold


def long_tailed(x: Tensor) -> Tensor:
    """The slope that stands for a step's: 2 - 4|x| to 0.4, then 0.4 to 1, then 0."""
    size = x.abs()
    return torch.where(size <= 0.4, 2 - 4 * size, 0.4 * (size <= 1))


def _above(weight: Tensor, thresholds: Tensor) -> Tensor:
    return weight.abs() - thresholds.reshape(-1, *[1] * (weight.dim() - 1))
