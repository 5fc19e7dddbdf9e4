"""Scores from what flows through the layer."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from sparsity_core.probe import Probe
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.weights import Scores


@SCORERS.register("wanda")
@dataclass(frozen=True)
class Wanda(Scorer):
    """Weight times the norm of its input over all samples and positions: |w_ij| * ||x_j||_2.

    Compared within each output row, so every row loses the same share. The norms are those of the
    model as it enters the probe. Source: Sun et al. 2024, arXiv 2306.11695.
    """

    memory: ClassVar[float] = 4
    comparable_within: ClassVar[Literal["model", "row"]] = "row"

    def score(self, probe: Probe) -> Scores:
        """|w_ij| * ||x_j||_2; zero for a layer that is never called."""
        energy = probe.input_energy
        return {
            name: w.abs() * energy[name].sqrt().to(w.dtype) for name, w in probe.weights.items()
        }
