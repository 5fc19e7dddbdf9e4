"""Scores from the weights alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.weights import Scores


@SCORERS.register("magnitude")
@dataclass(frozen=True)
class Magnitude(Scorer):
    """The weight's size, |w| (Han et al. 2015, arXiv 1506.02626).

    Pooled into units: the mean of |w|, or with `norm` 2 the root of the mean of w^2, which ranks
    units of one size by their L1 or L2 norm (Li et al. 2017, arXiv 1608.08710).
    """

    memory: ClassVar[float] = 2
    needs_data: ClassVar[bool] = False
    norm: int = 1

    def __post_init__(self) -> None:
        if self.norm not in (1, 2):
            raise SparsityError(f"magnitude: norm must be 1 or 2, got {self.norm!r}")

    def score(self, probe: Probe) -> Scores:
        """|w|."""
        return {name: weight.abs() for name, weight in probe.weights.items()}

    def pool(self, scores: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        """mean |w|, or the root of mean w^2."""
        return mean(scores) if self.norm == 1 else mean(scores.square()).sqrt()


@SCORERS.register("random")
@dataclass(frozen=True)
class Random(Scorer):
    """Uniform noise from the probe's seed: the control that every other scorer has to beat."""

    memory: ClassVar[float] = 2
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


@SCORERS.register("han-threshold")
@dataclass(frozen=True)
class HanThreshold(Scorer):
    """The weight's size in standard deviations of its layer: |w| / std(w).

    With allocation `threshold(cut=q)` it is the rule of Han et al. 2015 (arXiv 1506.02626), quality
    q times the standard deviation; with `global` one quality for all layers that meets the target.
    std divides by the count of all weights of the layer as it is; a layer of equal weights keeps
    |w|.
    """

    memory: ClassVar[float] = 2.5
    needs_data: ClassVar[bool] = False

    def score(self, probe: Probe) -> Scores:
        """|w| / std(w)."""
        return {name: w.abs() / _std(w) for name, w in probe.weights.items()}


@SCORERS.register("geometric-median")
@dataclass(frozen=True)
class GeometricMedian(Scorer):
    """The filter's sum of distances to all filters of its layer: sum_k ||w_j - w_k||_2.

    Who is nearest to the geometric median of the filters can best be replaced by the others.
    Source: He et al. 2019 (FPGM), arXiv 1811.00250.
    """

    memory: ClassVar[float] = 2
    needs_data: ClassVar[bool] = False
    ranks: ClassVar[Literal["weights", "outputs"]] = "outputs"

    def score(self, probe: Probe) -> Scores:
        """sum_k ||w_j - w_k||_2, the same for all weights of output j."""
        return {name: _spread(_distances(w), w) for name, w in probe.weights.items()}


def _std(weight: Tensor) -> Tensor:
    std = weight.float().std(correction=0) if weight.numel() else torch.ones(())
    return torch.where(std > 0, std, 1).to(weight.dtype)


def _distances(weight: Tensor) -> Tensor:
    filters = weight.flatten(1).float()
    # Not by products of matrices, which would leave 1e-3 between a filter and its copy.
    apart = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.sum(1)


def _spread(per_output: Tensor, weight: Tensor) -> Tensor:
    """A number for each output as the score of all its weights."""
    column = per_output.reshape(-1, *[1] * (weight.dim() - 1))
    return column.to(weight.dtype).expand_as(weight).contiguous()
