"""One layer's masks at several sparsities, from one scoring; and the row that a mask gives."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import torch

from sparsity_core.comparison import compare, removed_weights
from sparsity_core.prune import checked_scores, masks_from_units, refusals, unit_scores
from sparsity_core.sweep.point import Result, SweepPoint, unmeasured
from sparsity_core.train import Evaluation
from sparsity_core.weights import Masks, sparsity_of
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
        self.distinct: list[Masks] = []  # in ascending sparsity
        self._places: dict[float, int] = {}
        measured = sorted({p.sparsity for p in points if not self.refusal(p.sparsity)})
        if not measured:
            return
        scores = checked_scores(probe, first.scorer, [first.layer])[first.layer]
        units = unit_scores(probe, first.layer, scores, first.scorer, first.structure)
        for sparsity in measured:
            masks = masks_from_units(self.layer, units, first.structure, sparsity)
            if not self.distinct or not _equal(masks, self.distinct[-1]):
                self.distinct.append(masks)
            self._places[sparsity] = len(self.distinct) - 1

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
            achieved_sparsity=sparsity_of((self.weight != 0) & mask.to(self.weight.device)),
            removed=removed_weights(self.weight, mask),
            **asdict(compare(self.bench.dense, pruned)),
        )


def _equal(masks: Masks, others: Masks) -> bool:
    return all(torch.equal(mask, others[name]) for name, mask in masks.items())
