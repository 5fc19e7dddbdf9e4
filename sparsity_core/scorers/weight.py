"""Scores from the weights alone."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from sparsity_core.digest import digest_of
from sparsity_core.probe import Probe
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.weights import Scores


@SCORERS.register("magnitude")
@dataclass(frozen=True)
class Magnitude(Scorer):
    """The weight's size, |w| (Han et al. 2015, arXiv 1506.02626)."""

    needs_data: ClassVar[bool] = False

    def score(self, probe: Probe) -> Scores:
        """|w|."""
        return {name: weight.abs() for name, weight in probe.weights.items()}


@SCORERS.register("random")
@dataclass(frozen=True)
class Random(Scorer):
    """Uniform noise from the probe's seed: the control that every other scorer has to beat."""

    needs_data: ClassVar[bool] = False

    def score(self, probe: Probe) -> Scores:
        """U(0, 1); each layer's draw depends on seed and name only, not on the other layers."""
        scores = {}
        for name, weight in probe.weights.items():
            seed = int(digest_of([probe.seed, name])[:12], 16)
            # Drawn on the CPU, whose generator gives the same numbers on every machine.
            noise = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed))
            scores[name] = noise.to(weight.device)
        return scores
