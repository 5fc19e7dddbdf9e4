"""Scores from the curvature of the loss at the weights."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.weights import Scores


@SCORERS.register("fisher")
@dataclass(frozen=True)
class Fisher(Scorer):
    """Second-order change of the loss by the diagonal empirical Fisher: w^2 / 2 * mean(g_n^2).

    g_n is the gradient of one sample's loss. Source: Theis et al. 2018, arXiv 1801.05787.
    """

    memory: ClassVar[float] = 5.5

    def score(self, probe: Probe) -> Scores:
        """w^2 / 2 * mean over samples of (dL_n/dw)^2."""
        squares = probe.squared_gradients
        return {name: w.square() * squares[name] / 2 for name, w in probe.weights.items()}


@SCORERS.register("obd")
@dataclass(frozen=True)
class OBD(Scorer):
    """Optimal brain damage: w^2 / 2 * H_ii, the diagonal estimated by `draws` random signs.

    Hutchinson: H_ii = E[v_i (H v)_i] with v of +1 and -1. Exact for a diagonal Hessian, noisy
    otherwise: more draws, less noise. A negative curvature gives a negative score. Source: LeCun
    et al. 1990, whose recursion for the diagonal this replaces.
    """

    memory: ClassVar[float] = 7.5
    draws: int = 16

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise SparsityError(f"obd: draws must be 1 or more, got {self.draws}")

    def score(self, probe: Probe) -> Scores:
        """w^2 / 2 * mean over draws of v * Hv."""
        random = torch.Generator().manual_seed(probe.seed)
        diagonal = {name: torch.zeros_like(w) for name, w in probe.weights.items()}
        for _ in range(self.draws):
            signs = {
                name: (2.0 * torch.randint(2, w.shape, generator=random) - 1).to(w)
                for name, w in probe.weights.items()
            }
            for name, product in probe.hessian_times(signs).items():
                diagonal[name] += signs[name] * product / self.draws
        return {name: w.square() * diagonal[name] / 2 for name, w in probe.weights.items()}


_PART = 4096  # blocks that are worked on at once


@SCORERS.register("woodfisher")
@dataclass(frozen=True)
class WoodFisher(Scorer):
    """Second-order change of the loss when the others make up for it: w^2 / (2 [F^-1]_qq).

    F is the empirical Fisher of the weight and its `block` - 1 neighbours in memory, plus `damping`
    on the diagonal. Holds `block` numbers a weight. Source: Singh & Alistarh 2020, arXiv
    2004.14340; its recursion for the inverse is not needed for blocks as small as these.
    """

    memory: ClassVar[float] = 22
    block: int = 16
    damping: float = 1e-5

    def __post_init__(self) -> None:
        if self.block < 1:
            raise SparsityError(f"woodfisher: block must be 1 or more, got {self.block}")
        if not self.damping > 0:
            raise SparsityError(f"woodfisher: damping must be more than 0, got {self.damping}")

    def score(self, probe: Probe) -> Scores:
        """w^2 / (2 [F^-1]_qq), F block by block."""
        fishers = {
            name: torch.zeros(-(-w.numel() // self.block), self.block, self.block, device=w.device)
            for name, w in probe.weights.items()
        }
        for gradients in probe.sample_gradients():
            for name, gradient in gradients.items():
                # In parts, for the product is made beside the sum that it is added to.
                parts = zip(
                    fishers[name].split(_PART), self._blocks(gradient).split(_PART), strict=True
                )
                for fisher, blocks in parts:
                    fisher.baddbmm_(blocks[:, :, None], blocks[:, None, :], alpha=1 / probe.samples)
        return {
            name: w.square() / (2 * self._inverse_diagonal(fishers[name], w))
            for name, w in probe.weights.items()
        }

    def _blocks(self, tensor: Tensor) -> Tensor:
        """(blocks, block) numbers in the order of memory; the last block is filled with zeros."""
        flat = tensor.reshape(-1).float()
        return F.pad(flat, (0, -len(flat) % self.block)).reshape(-1, self.block)

    def _inverse_diagonal(self, fisher: Tensor, weight: Tensor) -> Tensor:
        damping = self.damping * torch.eye(self.block, device=fisher.device, dtype=torch.float64)
        diagonal = torch.empty(fisher.shape[:2], device=fisher.device)
        # In parts of which only the diagonal is kept: all inverses would be 32 numbers a weight.
        for kept, part in zip(diagonal.split(_PART), fisher.split(_PART), strict=True):
            kept.copy_(torch.linalg.inv(part.double() + damping).diagonal(dim1=1, dim2=2))
        return diagonal.reshape(-1)[: weight.numel()].reshape(weight.shape).to(weight.dtype)


@SCORERS.register("grasp")
@dataclass(frozen=True)
class Grasp(Scorer):
    """Gradient signal preservation: w * (H g), g the gradient, both of the loss of outputs / T.

    Keeps what raises the norm of the gradient after pruning; meant for a model at initialisation.
    The sign decides, so no absolute value is taken. Source: Wang et al. 2020, arXiv 2002.07376,
    which removes the largest of -w * (H g).
    """

    memory: ClassVar[float] = 6.5
    temperature: float = 200.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise SparsityError(f"grasp: temperature must be more than 0, got {self.temperature}")

    def score(self, probe: Probe) -> Scores:
        """w * (H g)."""
        cooled = probe.with_outputs_over(self.temperature)
        products = cooled.hessian_times(cooled.gradients)
        return {name: w * products[name] for name, w in probe.weights.items()}
