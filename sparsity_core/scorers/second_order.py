"""Scores from the second moments of a layer's inputs."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.moments import inverse_root
from sparsity_core.probe import Probe
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.weights import Scores


@SCORERS.register("obs")
@dataclass(frozen=True)
class OBS(Scorer):
    """Optimal brain surgeon, layer by layer: w_q^2 / (2 [H^-1]_qq), H = 2 * mean of x x^T.

    How much the mean squared change of the layer's outputs grows when the weight goes and the
    others of its row make up for it as well as they can (see the repairs `sparsegpt` and
    `least-squares`). `damping` is added to the diagonal of H as a share of its mean. In a model
    that is already sparse the others are all inputs, pruned ones too. Holds three inputs x inputs
    matrices of one layer at a time. Source: Hassibi & Stork 1993; layer-wise as in Frantar &
    Alistarh 2022, arXiv 2208.11580.
    """

    memory: ClassVar[float] = 7.5
    damping: float = 0.01

    def __post_init__(self) -> None:
        if not self.damping >= 0:
            raise SparsityError(f"obs: damping must be 0 or more, got {self.damping}")

    def score(self, probe: Probe) -> Scores:
        """w^2 / (2 [H^-1]_qq); zero for inputs that are always zero and layers never called."""
        return {name: self._layer(probe, name, weight) for name, weight in probe.weights.items()}

    def _layer(self, probe: Probe, name: str, weight: Tensor) -> Tensor:
        squares = weight.flatten(1).double().square()
        scores = torch.zeros_like(squares)
        for part in probe.input_moments(name):
            root = inverse_root(name, part.second, self.damping)
            inverse_diagonal = root.square().sum(0)  # of second^-1, which is 2 H^-1
            scores[part.rows] = squares[part.rows] / inverse_diagonal
            scores[part.rows, part.second.diagonal() == 0] = 0
        return scores.reshape(weight.shape)
