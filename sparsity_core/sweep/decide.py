"""Early answers: all points see a few samples, then more, and each stops once it is settled."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from sparsity_core.comparison import compare, masked, removed_weights, sparsity_under
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.scorers import Scorer
from sparsity_core.setting import Setting
from sparsity_core.status import OPEN, rows_of
from sparsity_core.structures import Structure
from sparsity_core.sweep.levels import Levels
from sparsity_core.sweep.order import Order, order_of, rates_from
from sparsity_core.sweep.point import Result, SweepPoint, unmeasured
from sparsity_core.sweep.sequential import Question, Standing, rounds
from sparsity_core.task import Metric, Task
from sparsity_core.train import Evaluation, evaluate
from sparsity_core.weights import Masks
from sparsity_core.workbench import Workbench, workbench

ENGINE = "decide"

_TELLING = 0.1  # share of the time that telling of open points may take: intervals are searched for

# How a point's model does on some samples; those of a round are the same object for all points.
Sampler = Callable[[SweepPoint, Masks, Split], Evaluation]
Sampling = Callable[[Workbench], Sampler]
Scoring = tuple[int, Scorer, Structure, str]  # what points share whose masks lie in one order


@dataclass(frozen=True, eq=False)
class Early:
    """A point after a round."""

    point: SweepPoint
    standing: Standing | None  # None: it cannot be measured, the row says why
    row: Result | None  # its only row, when it is settled
    seconds: float = 0.0  # up to now
    so_far: Callable[[], Result] | None = None  # what is known of one that is not


def measure(
    task: Task,
    setting: Setting,
    points: Sequence[SweepPoint],
    question: Question,
    sampling: Sampling | None = None,
    told: bool = False,
) -> Iterator[Result]:
    """A row for each point when its question is settled, so not in the order of `points`.

    With `told` also rows with status `open` about the others, as often as takes little time.

    All numbers are of all samples of the setting: drop_low and drop_high are where the drop lies,
    `value`, `drop` and losses are estimates as long as not all samples were seen. Whatever goes
    wrong with a point is its row's status.
    """
    started, telling = time.perf_counter(), 0.0
    for early in follow(task, setting, points, question, sampling):
        if early.row is not None:
            yield early.row
        elif told and early.so_far is not None:
            now = time.perf_counter()
            if telling <= _TELLING * (now - started):
                row = early.so_far()
                telling += time.perf_counter() - now
                yield replace(row, seconds=early.seconds)


def follow(
    task: Task,
    setting: Setting,
    points: Sequence[SweepPoint],
    question: Question,
    sampling: Sampling | None = None,
) -> Iterator[Early]:
    """Every open point after every round: what `measure` waits for, as it comes about.

    At first level after level, each in all layers; later all levels of a layer together, so that
    what is before it runs once. Holds of each layer with open points what its masks are made from:
    a byte for each weight, whatever the number of sparsities, where one order ranks all.
    """
    bench = workbench(task, setting)
    trials = _Trials(bench, points, question, (sampling or whole_model)(bench))
    seconds = dict.fromkeys((point.id for point in points), 0.0)
    place = {point.id: i for i, point in enumerate(points)}
    open_points = _by_level(points)
    for where in rounds(setting.samples):
        see = partial(trials.see, where=where)
        still_open = []
        for early in rows_of(open_points, see, trials.unmeasured):
            seconds[early.point.id] += early.seconds
            spent = seconds[early.point.id]
            if early.row is None:
                still_open.append(early.point)
                yield replace(early, seconds=spent)
            else:
                yield replace(early, seconds=spent, row=replace(early.row, seconds=spent))
        open_points = sorted(still_open, key=lambda point: place[point.id])


def whole_model(bench: Workbench, _memory: int = 0) -> Sampler:
    """The sampler that runs the whole model, and keeps nothing for the next point."""

    def sample(_point: SweepPoint, masks: Masks, samples: Split) -> Evaluation:
        with masked(bench.model, masks) as model:
            return evaluate(
                model,
                samples,
                loss=bench.task.loss,
                metric=bench.task.metric,
                device=bench.setting.device,
            )

    return sample


class _Trials:
    """The points under way: what their masks are made from, and what was seen of them."""

    def __init__(
        self, bench: Workbench, points: Sequence[SweepPoint], question: Question, sampler: Sampler
    ) -> None:
        self.bench = bench
        self.points = points
        self.question = question
        self.sampler = sampler
        self.levels: dict[Scoring, Levels] = {}
        self.open: dict[Scoring, int] = {}  # points that share a scoring
        self.seen: dict[str, list[Evaluation]] = {}
        self.standings: dict[str, Standing] = {}
        self._taken: tuple[slice, Split] | None = None
        # In this round; equal masks share a place among those of their scoring.
        self._found: dict[tuple[Scoring, int], Evaluation] = {}

    @cached_property
    def order(self) -> Order:
        """In which every point sees the samples."""
        rates = rates_from(self.bench.dense.losses.double().numpy())
        return order_of(rates, self.question.order)

    def see(self, point: SweepPoint, where: slice) -> Early:
        """The point after further samples, which stand at `where` in the order."""
        levels = self._levels(point)
        if reason := levels.refusal(point.sparsity):
            return self.unmeasured(point, "skipped", f"{point.layer}: {reason}")
        if point.id not in self.seen:
            self.seen[point.id] = []
            self.standings[point.id] = Standing(self.question, self.order)
        samples = self._samples(where)
        found = _scoring(point), levels.place(point.sparsity)
        if found not in self._found:
            self._found[found] = self.sampler(point, self._masks(point), samples)
        pruned = self._found[found]
        self.seen[point.id].append(pruned)
        dense = self.bench.dense.values[self.order.samples[where]]
        metric = self.bench.task.metric
        differences = _bounded(dense, metric) - _bounded(pruned.values, metric)
        standing = self.standings[point.id].after(differences)
        self.standings[point.id] = standing
        if standing.settled:
            return Early(point, standing, self._last_row(point))
        return Early(point, standing, None, so_far=lambda: self._row(point, standing, OPEN))

    def unmeasured(self, point: SweepPoint, status: str, message: str) -> Early:
        """The point without numbers."""
        row = unmeasured(self.bench.setting, point, ENGINE, status, message)
        return Early(point, None, row)

    def _samples(self, where: slice) -> Split:
        if self._taken is None or self._taken[0] != where:
            chosen = torch.from_numpy(self.order.samples[where])
            self._taken = where, self.bench.samples.take(chosen)
            self._found = {}
        return self._taken[1]

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

    def _row(self, point: SweepPoint, standing: Standing, status: str) -> Result:
        """What was seen of the point."""
        mask = self._masks(point)[point.layer]
        pruned = _joined(self.seen[point.id])
        probe = self.bench.probe(point.seed)
        weight = probe.weights[point.layer]
        message = "; ".join(filter(None, (probe.layers[point.layer].note, str(standing))))
        return replace(
            unmeasured(self.bench.setting, point, ENGINE, status, message),
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
            whole = compare(_at(dense, first), pruned)
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


def _scoring(point: SweepPoint) -> Scoring:
    return point.seed, point.scorer, point.structure, point.layer


def _by_level(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """The points of each level together, from the middle levels outwards."""
    levels = sorted({point.sparsity for point in points})
    middle = len(levels) // 2
    turn = {level: abs(i - middle) for i, level in enumerate(levels)}
    return sorted(points, key=lambda point: (turn[point.sparsity], point.sparsity))


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


def _at(whole: Evaluation, which: Tensor) -> Evaluation:
    return Evaluation(whole.values[which], whole.losses[which], whole.predictions[which])
