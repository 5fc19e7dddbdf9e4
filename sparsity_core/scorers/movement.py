"""Scores that are learned in a short training."""

from dataclasses import dataclass
from itertools import cycle, islice
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.selection import count_pruned, keep_best
from sparsity_core.weights import Scores, check_finite, check_sparsity


@SCORERS.register("movement")
@dataclass(frozen=True)
class Movement(Scorer):
    """Does training move the weight away from zero? S = -rate * sum over steps of w * dL/dw'.

    Weights and scores are trained together by gradient descent for `steps` batches; w' are the
    weights under the mask of the best scores of each layer, as sparse as a cubic schedule up to
    `sparsity` says. Weights out of the mask rest, their scores do not (straight-through). Norms
    keep their statistics; the probe's model is not changed. Source: Sanh et al. 2020, arXiv
    2005.07683.
    """

    memory: ClassVar[float] = 8
    steps: int = 50
    rate: float = 0.01
    sparsity: float = 0.5

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity, "movement: sparsity")
        if self.steps < 1:
            raise SparsityError(f"movement: steps must be 1 or more, got {self.steps}")
        if not self.rate > 0:
            raise SparsityError(f"movement: rate must be more than 0, got {self.rate}")

    def score(self, probe: Probe) -> Scores:
        """The scores after the last step; they start at zero and may be negative."""
        weights = {name: w.clone() for name, w in probe.weights.items()}
        scores = {name: torch.zeros_like(w) for name, w in weights.items()}
        pruned_before = {name: probe.masks[name] for name in weights if name in probe.masks}
        probe.require_samples()
        for step, batch in enumerate(islice(cycle(probe.batches), self.steps)):
            sparsity = self.sparsity * (1 - (1 - step / self.steps) ** 3)
            masks = {name: _best(s, sparsity) for name, s in scores.items()}
            masks |= {name: masks[name] & alive for name, alive in pruned_before.items()}
            masked = {name: w * masks[name] for name, w in weights.items()}
            for name, gradient in probe.gradient_at(batch, masked).items():
                scores[name] -= self.rate * gradient * weights[name]
                weights[name] -= self.rate * gradient * masks[name]
        for name, score in scores.items():
            check_finite(name, score, "movement scores")
        return scores


def _best(scores: Tensor, sparsity: float) -> Tensor:
    """The mask of a layer's best scores."""
    flat = scores.reshape(-1)
    return keep_best(flat, count_pruned(len(flat), sparsity)).reshape(scores.shape)
