"""One layer's masks at several sparsities, from one scoring; and the row that a mask gives."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from sparsity_core.comparison import compare, removed_weights, sparsity_under
from sparsity_core.prune import (
    checked_scores,
    masks_from_choice,
    masks_from_units,
    refusals,
    unit_scores,
)
from sparsity_core.selection import count_pruned, rank_codes
from sparsity_core.structures import Structure
from sparsity_core.sweep.point import Result, SweepPoint, unmeasured
from sparsity_core.train import Evaluation
from sparsity_core.weights import Masks, Prunable
from sparsity_core.workbench import Workbench


class Levels:
    """The masks of points that share seed, scorer, structure and layer; equal masks are one.

    Raises what scoring raises: NonFiniteError for weights or scores that are NaN or infinite.
    """

    def __init__(self, bench: Workbench, points: Sequence[SweepPoint]) -> None:
        first = points[0]
        probe = bench.probe(first.seed)
        self.bench = bench
        self.layer = probe.layers[first.layer]
        self.weight = probe.weights[first.layer]
        self.refused = refusals(probe, first.scorer, first.structure).get(first.layer)
        self.structure = first.structure
        self.distinct: Sequence[Masks] = []  # in ascending sparsity
        self._places: dict[float, int] = {}
        measured = sorted({p.sparsity for p in points if not self.refusal(p.sparsity)})
        if not measured:
            return
        scores = checked_scores(probe, first.scorer, [first.layer])[first.layer]
        units = unit_scores(probe, first.layer, scores, first.scorer, first.structure)
        if type(first.structure).choose is Structure.choose and len(measured) < 256:
            counts = [count_pruned(units.numel(), s) for s in measured]
            different = sorted(set(counts))
            self.distinct = _Ranked(self.layer, units, first.structure, different)
            self._places = {s: different.index(c) for s, c in zip(measured, counts, strict=True)}
            return
        found: list[Masks] = []
        for sparsity in measured:
            masks = masks_from_units(self.layer, units, first.structure, sparsity)
            if not found or not _equal(masks, found[-1]):
                found.append(masks)
            self._places[sparsity] = len(found) - 1
        self.distinct = found

    def refusal(self, sparsity: float) -> str | None:
        """Why the layer cannot have this sparsity, or None when it can."""
        return self.refused or self.structure.refuses(sparsity)

    def place(self, sparsity: float) -> int:
        """Where the masks of a sparsity stand among the distinct ones."""
        return self._places[sparsity]

    def skipped(self, point: SweepPoint, engine: str) -> Result:
        """The row of a point that the layer cannot have."""
        why = f"{point.layer}: {self.refusal(point.sparsity)}"
        return unmeasured(self.bench.setting, point, engine, "skipped", why)

    def row(self, point: SweepPoint, pruned: Evaluation, engine: str, note: str = "") -> Result:
        """The row of a point whose pruned model does so on all samples."""
        mask = self.distinct[self.place(point.sparsity)][self.layer.name]
        status = "ok" if mask.any() else "collapsed"
        message = "; ".join(filter(None, (self.layer.note, note)))
        return replace(
            unmeasured(self.bench.setting, point, engine, status, message),
            achieved_sparsity=sparsity_under(self.weight, mask),
            removed=removed_weights(self.weight, mask),
            **asdict(compare(self.bench.dense, pruned)),
        )


class _Ranked(Sequence[Masks]):
    """Masks at ascending counts of pruned units: a byte a unit for all, each made when asked."""

    def __init__(
        self, layer: Prunable, units: Tensor, structure: Structure, pruned: Sequence[int]
    ) -> None:
        self.layer, self.structure, self.pruned = layer, structure, pruned
        self.codes = rank_codes(units.reshape(-1), pruned).reshape(units.shape)
        self._last: tuple[int, Masks] = (-1, {})  # a point asks for its masks several times

    def __len__(self) -> int:
        return len(self.pruned)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        if self._last[0] != place:
            masks = masks_from_choice(self.layer, self.codes > place, self.structure)
            self._last = place, masks
        return self._last[1]


def _equal(masks: Masks, others: Masks) -> bool:
    return all(torch.equal(mask, others[name]) for name, mask in masks.items())
