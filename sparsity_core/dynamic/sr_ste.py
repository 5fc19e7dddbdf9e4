"""N:M training with sparse-refined gradients."""

from dataclasses import dataclass

from torch import Tensor

from sparsity_core.dynamic.forward import ForwardRule
from sparsity_core.dynamic.rule import RULES, Clock
from sparsity_core.errors import SparsityError
from sparsity_core.structures import NofM


@RULES.register("sr-ste")
@dataclass(frozen=True)
class SrSte(ForwardRule):
    """The n largest of each m neighbouring inputs are used, chosen anew in every step.

    The gradient reaches all weights as if nothing were cut, plus `refine` times the weight where it
    is cut: what is out shrinks. Layers whose inputs are no multiple of m stay dense. Source: Zhou
    et al. 2021, arXiv 2102.04010.
    """

    n: int = 2
    m: int = 4
    refine: float = 2e-4

    def __post_init__(self) -> None:
        if self.refine < 0:
            raise SparsityError(f"sr-ste: refine must be 0 or more, got {self.refine!r}")
        self.groups  # noqa: B018 - refuses what is no n:m

    @property
    def groups(self) -> NofM:
        """The structure that all masks have."""
        return NofM(self.n, self.m)

    @property
    def fixed_sparsity(self) -> float:
        """1 - n/m."""
        return self.groups.fixed_sparsity

    def fits(self, shape: tuple[int, ...], groups: int = 1) -> str | None:
        """Needs a multiple of m inputs."""
        return self.groups.fits(shape, groups)

    def live(self, weight: Tensor, mask: Tensor, learned: Tensor | None) -> Tensor:  # noqa: ARG002
        """The n largest of each m."""
        chosen = self.groups.choose(self.groups.units(weight.abs()), self.fixed_sparsity)
        return self.groups.expand(chosen, tuple(weight.shape))

    def used(self, weight: Tensor, mask: Tensor, learned: Tensor | None) -> Tensor:
        """Those weights."""
        return weight.masked_fill(~self.live(weight, mask, learned), 0)

    def gradients(
        self,
        gradient: Tensor,
        weight: Tensor,
        mask: Tensor,
        learned: Tensor | None,
        clock: Clock,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor | None]:
        """Straight through, and the cut weights' own decay."""
        cut = ~self.live(weight, mask, learned)
        return gradient + self.refine * weight * cut, None
