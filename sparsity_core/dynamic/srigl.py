"""Structured RigL: every living neuron has as many inputs, and neurons with too few are ablated."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.dynamic.exchange import drawn_in_rows, highest, highest_in_rows, lowest
from sparsity_core.dynamic.rule import (
    RULES,
    Counts,
    Report,
    State,
    check_all_finite,
    generator_for,
)
from sparsity_core.dynamic.timing import Exchanging
from sparsity_core.errors import SparsityError
from sparsity_core.registry import Shorthand
from sparsity_core.selection import keep_best
from sparsity_core.structures import NofM
from sparsity_core.weights import Masks, Weights


@RULES.register("srigl")
@dataclass(frozen=True)
class SRigL(Exchanging):
    """RigL with a constant fan-in: each living neuron has as many inputs as any other of its layer.

    A neuron is salient by how many of its weights are among the layer's largest, or of its dead
    places among the largest gradients; below max(1, floor(ablate x fan-in)) it is ablated and its
    inputs go to the others. Never in the last layer; ablate 0 ablates none but the wholly
    unsalient. Source: Lasby et al. 2024, arXiv 2305.02299.
    """

    layerwise: ClassVar[bool] = True
    ablate: float = 0.3  # gamma_sal, a share of the sparse fan-in; 0.95 for transformers

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ablate <= 1:
            raise SparsityError(f"ablate must be a share from 0 to 1, got {self.ablate!r}")

    @property
    def needs_gradients(self) -> bool:
        """Dense ones, of the batch of the update alone."""
        return True

    def first(self, weights: Weights, kept: Counts, seed: int) -> Masks:
        """Random inputs, as many for each neuron; a budget below one each serves that many."""
        masks = {}
        for name, weight in weights.items():
            make = generator_for(seed, 0, name)
            rows, width = len(weight), weight[0].numel()
            counts = torch.full((rows,), kept[name] // rows)
            if 0 < kept[name] < rows:
                counts[torch.randperm(rows, generator=make)[: kept[name]]] = 1
            masks[name] = drawn_in_rows((rows, width), counts, make).reshape(weight.shape)
        return masks

    def update(self, state: State) -> tuple[Masks, Report]:
        """At most the budget: living neurons times their fan-in, rounded down."""
        check_all_finite(state.gradients, "gradients")
        check_all_finite(state.weights, "weights")
        masks, ablated = {}, {}
        for name, mask in state.masks.items():
            moved = exchanged_by_rows(
                state.weights[name].flatten(1).abs(),
                state.gradients[name].flatten(1).abs(),
                mask.flatten(1),
                kept=state.kept[name],
                share=self.share(state.clock),
                ablate=None if name == state.last else self.ablate,
            )
            masks[name] = moved.reshape(mask.shape)
            ablated[name] = int((~moved.any(1)).sum())
        return masks, Report(ablated=ablated)


@RULES.register("srigl-n:m", Shorthand(r"srigl-(?P<n>\d+):(?P<m>\d+)", "srigl-{n}:{m}"))
@dataclass(frozen=True)
class SRigLNofM(Exchanging):
    """SRigL with n of each m neighbouring inputs, as sparse tensor cores read them; no ablation.

    Source: Lasby et al. 2024, arXiv 2305.02299, with groups of m in place of neurons.
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.groups  # noqa: B018 - refuses what is no n:m

    @property
    def groups(self) -> NofM:
        """The structure that all masks have."""
        return NofM(self.n, self.m)

    @property
    def fixed_sparsity(self) -> float:
        """1 - n/m."""
        return self.groups.fixed_sparsity

    @property
    def needs_gradients(self) -> bool:
        """Dense ones, of the batch of the update alone."""
        return True

    def fits(self, shape: tuple[int, ...], groups: int = 1) -> str | None:
        """Needs a multiple of m inputs."""
        return self.groups.fits(shape, groups)

    def first(self, weights: Weights, kept: Counts, seed: int) -> Masks:  # noqa: ARG002
        """n of each m at random."""
        masks = {}
        for name, weight in weights.items():
            rows = weight.numel() // self.m
            counts = torch.full((rows,), self.n)
            chosen = drawn_in_rows((rows, self.m), counts, generator_for(seed, 0, name))
            masks[name] = self.groups.expand(chosen, tuple(weight.shape))
        return masks

    def update(self, state: State) -> tuple[Masks, Report]:
        """n of each m stay and come."""
        check_all_finite(state.gradients, "gradients")
        check_all_finite(state.weights, "weights")
        masks = {}
        for name, mask in state.masks.items():
            units = self.groups.units(mask)
            moved = exchanged_by_rows(
                self.groups.units(state.weights[name].abs()),
                self.groups.units(state.gradients[name].abs()),
                units,
                kept=self.n * len(units),
                share=self.share(state.clock),
                ablate=None,
            )
            masks[name] = self.groups.expand(moved, tuple(mask.shape))
        return masks, Report()


def exchanged_by_rows(
    weights: Tensor,
    gradients: Tensor,
    mask: Tensor,
    *,
    kept: int,
    share: float,
    ablate: float | None,
) -> Tensor:
    """The mask after an exchange that leaves every living row with the same count.

    weights, gradients: (rows, columns), absolute; `ablate` None lets every row live.
    """
    live = int(mask.sum())
    moving = int(share * live)
    growing = min(moving, mask.numel() - live)
    salient = highest(weights, mask, live - moving) | highest(gradients, ~mask, growing)
    rows = _living_rows(salient.sum(1), kept, mask.shape[1], ablate)
    fan_in = min(kept // max(int(rows.sum()), 1), mask.shape[1])
    # Across the layer, not neuron by neuron, and then by size and not by place where a row is
    # over-full: the reference sorts the Boolean mask there.
    left = mask & ~lowest(weights, mask, moving) & rows[:, None]
    left = highest_in_rows(weights, left, torch.full_like(left.sum(1), fan_in))
    return left | highest_in_rows(gradients, ~left, rows * fan_in - left.sum(1))


def _living_rows(saliency: Tensor, kept: int, width: int, ablate: float | None) -> Tensor:
    """True for the neurons that live; no fewer than can hold the budget, no more than it serves."""
    fan_in = kept // len(saliency)
    rows = torch.ones_like(saliency, dtype=torch.bool)
    if ablate is not None:
        rows = saliency >= max(1, int(ablate * fan_in))
    count = min(max(int(rows.sum()), -(-kept // width)), kept, len(rows))
    if count == int(rows.sum()):
        return rows
    return keep_best(saliency.float(), len(rows) - count)
