"""A sweep's points in parts: which samples are still to be measured, and the rows that parts make.

Points that an early answer has begun are completed by the samples that it did not see. Where a
sweep has too few groups of points for its workers, or very many samples, groups are cut along the
samples. A part that is stored is not measured again, whoever is killed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sparsity_core.machine import device_label, versions
from sparsity_core.plans import Plan
from sparsity_core.store import Store
from sparsity_core.sweep.cut import spans
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.sweep.point import Result
from sparsity_core.sweep.share import Part, Share, Span, combined, fitting, gaps

PART = "sweep part"  # kind of row in the store


class Gathering:
    """The points of a plan that are on their way in parts."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self._parts: dict[str, list[Part]] = {}  # of each point that is measured in parts
        self._points: dict[str, Any] = {}
        self._ended: set[str] = set()

    def begin(self, points: Sequence[Any]) -> list[Result]:
        """Look what is stored of points; the rows of those of which that is everything."""
        plan = self.plan
        if not isinstance(plan, SweepPlan) or plan.question:
            return []
        here = device_label(plan.device), versions()
        stored = self.store.parts([point.id for point in points])
        for point in points:
            # Only what was measured by what is here now.
            own = [p for p in stored.get(point.id, ()) if (p.device, p.versions) == here]
            if own:
                self._points[point.id], self._parts[point.id] = point, own
        return [row for point in points if (row := self._row(point.id))]

    def cuts(
        self, groups: Sequence[Sequence[Any]], work: Mapping[str, float], workers: int
    ) -> list[list[Span]]:
        """Where each of some groups is cut for so many workers: nowhere, but of a sweep."""
        plan = self.plan
        if not isinstance(plan, SweepPlan):
            return [[] for _ in groups]
        works = [sum(work.get(point.id, 1.0) for point in group) for group in groups]
        whole = sum(works) or 1.0
        return [spans(plan, own / whole, workers) for own in works]

    def units(self, points: Sequence[Any], cuts: Sequence[Span]) -> Iterator[list[Any]]:
        """Units of work for points that belong together: points, or shares of points.

        `cuts`: the samples of each unit; those of an early answer stand in another order.
        """
        if len(cuts) > 1:
            untouched = [point for point in points if point.id not in self._parts]
            self._points |= {point.id: point for point in untouched}
            self._parts |= {point.id: [] for point in untouched}
        whole = [point for point in points if point.id not in self._parts]
        shares = [share for point in points for share in self._missing(point)]
        plain = [share for share in shares if not share.order]
        drawn = [share for share in shares if share.order]
        cut = ([own for share in plain if (own := share.within(cut))] for cut in cuts)
        yield from filter(None, [whole, *cut, drawn])

    def _missing(self, point: Any) -> list[Share]:
        """The samples that are missing of a point in parts."""
        if point.id not in self._parts or point.id in self._ended:
            return []
        found = fitting(self._parts[point.id])
        order = found[0].order if found else ""
        return [Share(point, *gap, order) for gap in gaps(found, self._samples)]

    def seen(self, point_id: str) -> float:
        """The share of a point's samples that were measured."""
        found = fitting(self._parts.get(point_id, []))
        return sum(part.stop - part.first for part in found) / self._samples if found else 0.0

    def take(self, part: Part) -> Result | None:
        """Store a part; the row of its point, if that is the last that was missing of it."""
        known = self.store.statuses([part.owner]).get(part.owner, "failed")
        if part.tally and known == "failed":
            self.store.add(PART, [part])
        # Another plan's point may go on from it, and one that has failed is over.
        if part.owner not in self._points or part.owner in self._ended:
            return None
        if part.tally:
            self._parts[part.owner].append(part)
            return self._row(part.owner)
        self._ended.add(part.owner)
        row: Result = self._plan.unmeasured(self._points[part.owner], part.status, part.message)
        return replace(row, seconds=part.seconds)

    def _row(self, point_id: str) -> Result | None:
        """The row of a point of which all parts are there."""
        found = fitting(self._parts.get(point_id, []))
        if not found or gaps(found, self._samples):
            return None
        self._ended.add(point_id)
        return combined(self._plan.setting, self._points[point_id], found)

    @property
    def _plan(self) -> SweepPlan:
        assert isinstance(self.plan, SweepPlan)  # only its points have parts
        return self.plan

    @property
    def _samples(self) -> int:
        return self._plan.setting.samples
