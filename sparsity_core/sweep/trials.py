"""The points of early answers while they are under way: their masks, and what was seen of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from sparsity_core.comparison import Tally, compare, removed_weights, sparsity_under
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.scorers import Scorer
from sparsity_core.status import OPEN
from sparsity_core.structures import Structure
from sparsity_core.sweep.levels import Levels
from sparsity_core.sweep.order import Order, cut_name, order_of, rates_from
from sparsity_core.sweep.point import Result, SweepPoint, unmeasured
from sparsity_core.sweep.sampling import Seen
from sparsity_core.sweep.sequential import Question, Standing
from sparsity_core.sweep.share import Part, Share, blank, filled
from sparsity_core.task import Metric
from sparsity_core.train import Evaluation
from sparsity_core.weights import Masks
from sparsity_core.workbench import Workbench

ENGINE = "decide"  # how the engine of an early answer begins; then who measures the samples

# How a model with one layer under each of some masks does on some samples, asked by the mask's
# place; the samples of a round are the same object for all layers.
Sampler = Callable[[str, Sequence[Masks], Split], Callable[[int], Evaluation]]
Scoring = tuple[int, Scorer, Structure, str]  # what points share whose masks lie in one order


@dataclass(frozen=True, eq=False)
class Early:
    """A point after a round."""

    point: SweepPoint
    standing: Standing | None  # None: it cannot be measured, the row says why
    row: Result | None  # its only row, when it is settled
    seconds: float = 0.0  # up to now
    so_far: Callable[[], Result] | None = None  # what is known of one that is not
    part: Part | None = None  # of a settled one's full measurement, as far as it can be kept


class Trials:
    """The points under way: what their masks are made from, and what was seen of them."""

    def __init__(
        self,
        bench: Workbench,
        points: Sequence[SweepPoint],
        question: Question,
        sampler: Sampler,
        engine: str = ENGINE,
        wholes: Mapping[str, str] | None = None,
    ) -> None:
        self.bench = bench
        self.wholes = wholes or {}  # ids of the same points, to be measured on all samples
        self.points = points
        self.question = question
        self.sampler = sampler
        self.engine = engine
        self.levels: dict[Scoring, Levels] = {}
        self.open: dict[Scoring, int] = {}  # points that share a scoring
        self.seen: dict[str, list[Evaluation]] = {}
        self.standings: dict[str, Standing] = {}
        self._where = slice(0)  # in the order the samples of this round stand
        self._samples: Split | None = None  # those samples, when one has asked for them
        self._round: dict[Scoring, list[SweepPoint]] = {}  # its points
        self._found: dict[Scoring, Callable[[int], Evaluation]] = {}  # by the place of their masks

    @cached_property
    def order(self) -> Order:
        """In which every point sees the samples."""
        rates = rates_from(self.bench.dense.losses.double().numpy())
        return order_of(rates, self.question.order)

    def begin(self, where: slice, points: Sequence[SweepPoint]) -> None:
        """A round, of the samples at `where` in the order and of these points."""
        self._where, self._samples, self._found, self._round = where, None, {}, {}
        for point in points:
            self._round.setdefault(_scoring(point), []).append(point)

    def see(self, point: SweepPoint) -> Early:
        """The point after the samples of the round."""
        levels = self._levels(point)
        if reason := levels.refusal(point.sparsity):
            return self.unmeasured(point, "skipped", f"{point.layer}: {reason}")
        if point.id not in self.seen:
            self.seen[point.id] = []
            standing = Standing(self.question, self.order, dense=self.bench.dense.value)
            self.standings[point.id] = standing
        pruned = self._pruned(point)
        self.seen[point.id].append(pruned)
        dense = self.bench.dense.values[self.order.samples[self._where]]
        metric = self.bench.task.metric
        differences = _bounded(dense, metric) - _bounded(pruned.values, metric)
        standing = self.standings[point.id].after(differences)
        self.standings[point.id] = standing
        if standing.settled:
            part = self._part(point)
            return Early(point, standing, self._last_row(point), part=part)
        return Early(point, standing, None, so_far=lambda: self._row(point, standing, OPEN))

    def unmeasured(self, point: SweepPoint, status: str, message: str) -> Early:
        """The point without numbers."""
        row = unmeasured(self.bench.setting, point, self.engine, status, message)
        return Early(point, None, row)

    def _pruned(self, point: SweepPoint) -> Evaluation:
        """How the point's model does in this round, in which equal masks are measured once."""
        scoring, levels = _scoring(point), self._levels(point)
        if scoring not in self._found:
            fitting = [p for p in self._round[scoring] if not levels.refusal(p.sparsity)]
            places = sorted({levels.place(p.sparsity) for p in fitting})
            if self._samples is None:
                numbers = torch.from_numpy(self.order.samples[self._where])
                self._samples = self.bench.samples.take(numbers)
            sampled = self.sampler(point.layer, Chosen(levels.distinct, places), self._samples)
            self._found[scoring] = cache(lambda place: sampled(places.index(place)))
        return self._found[scoring](levels.place(point.sparsity))

    def _levels(self, point: SweepPoint) -> Levels:
        """The masks of all points that share the point's scoring."""
        scoring = _scoring(point)
        if scoring not in self.levels:
            alike = [other for other in self.points if _scoring(other) == scoring]
            levels = self.levels[scoring] = Levels(self.bench, alike)
            self.open[scoring] = sum(not levels.refusal(other.sparsity) for other in alike)
        return self.levels[scoring]

    def _masks(self, point: SweepPoint) -> Masks:
        levels = self._levels(point)
        masks: Masks = levels.distinct[levels.place(point.sparsity)]
        return masks

    def _last_row(self, point: SweepPoint) -> Result:
        """The row of a settled point; with the last that share its scoring their masks go."""
        standing = self.standings.pop(point.id)
        collapsed = not self._masks(point)[point.layer].any()
        row = self._row(point, standing, "collapsed" if collapsed else "ok")
        del self.seen[point.id]
        scoring = _scoring(point)
        self.open[scoring] -= 1
        if not self.open[scoring]:
            del self.levels[scoring]
        return row

    def _part(self, point: SweepPoint) -> Part | None:
        """The samples seen of the point, for a full measurement of it that is to come.

        None where one of the predictions may be another when all samples are measured.
        """
        seen = [each for each in self.seen[point.id] if isinstance(each, Seen) and each.sure]
        if point.id not in self.wholes or len(seen) < len(self.seen[point.id]):
            return None
        pruned, levels = _joined(seen), self._levels(point)
        count = len(pruned.values)
        order = cut_name(self.order, self.question.order, count)
        share = Share(replace(point, id=self.wholes[point.id]), 0, count, order)
        mask = self._masks(point)[point.layer]
        status = "ok" if mask.any() else "collapsed"
        first = torch.from_numpy(self.order.samples[:count])
        return filled(
            blank(self.bench.setting, share, self.engine, status, levels.layer.note),
            seen,
            Tally.of(at(self.bench.dense, first), pruned),
            removed_weights(levels.weight, mask),
            sparsity_under(levels.weight, mask),
        )

    def _row(self, point: SweepPoint, standing: Standing, status: str) -> Result:
        """What was seen of the point."""
        mask = self._masks(point)[point.layer]
        pruned = _joined(self.seen[point.id])
        probe = self.bench.probe(point.seed)
        weight = probe.weights[point.layer]
        message = "; ".join(filter(None, (probe.layers[point.layer].note, str(standing))))
        return replace(
            unmeasured(self.bench.setting, point, self.engine, status, message),
            achieved_sparsity=sparsity_under(weight, mask),
            removed=removed_weights(weight, mask),
            **self._numbers(standing, pruned),
        )

    def _numbers(self, standing: Standing, pruned: Evaluation) -> dict[str, Any]:
        """What the columns of a Comparison say of all samples."""
        dense, seen = self.bench.dense, len(pruned.values)
        first = torch.from_numpy(self.order.samples[:seen])
        low, high = standing.interval
        if seen == len(self.order):
            whole = compare(at(dense, first), pruned)
            return asdict(whole) | {"drop_low": low, "drop_high": high}
        rise = self.order.mean((pruned.losses - dense.losses[first]).double().numpy())
        return {
            "value": dense.value - standing.drop,
            "dense_value": dense.value,
            "drop": standing.drop,
            "drop_low": low,
            "drop_high": high,
            "loss": dense.loss + rise,
            "dense_loss": dense.loss,
            "loss_rise": rise,
            "samples": seen,
        }


class Chosen(Sequence[Masks]):
    """Those masks at some places, each made when asked for."""

    def __init__(self, of: Sequence[Masks], places: Sequence[int]) -> None:
        self.of, self.places = of, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Chosen(self.of, self.places[place])
        return self.of[self.places[place]]


def _scoring(point: SweepPoint) -> Scoring:
    return point.seed, point.scorer, point.structure, point.layer


def _bounded(values: Tensor, metric: Metric) -> Tensor:
    """Metric values of single samples; SparsityError unless all are between 0 and 1."""
    plain = metric.higher_is_better and metric.of_mean is None
    if not plain or not ((values >= 0) & (values <= 1)).all():
        raise SparsityError(
            "early answers need a metric between 0 and 1 for each sample, such as accuracy; "
            "measure all samples with another engine"
        )
    return values.double()


def _joined(parts: Sequence[Evaluation]) -> Evaluation:
    return Evaluation(
        torch.cat([part.values for part in parts]),
        torch.cat([part.losses for part in parts]),
        torch.cat([part.predictions for part in parts]),
    )


def at(whole: Evaluation, which: Tensor) -> Evaluation:
    """An evaluation of some of its samples, by their numbers (n,)."""
    return Evaluation(
        whole.values[which], whole.losses[which], whole.predictions[which], whole.metric
    )
