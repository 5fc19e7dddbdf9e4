"""Early answers: all points see a few samples, then more, and each stops once it is settled."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sparsity_core.comparison import compare, masked, removed_weights
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.prune import checked_scores, masks_from_units, refusals, unit_scores
from sparsity_core.setting import Setting
from sparsity_core.status import rows_of
from sparsity_core.sweep.point import Result, SweepPoint, unmeasured
from sparsity_core.sweep.sequential import Question, Standing, rounds
from sparsity_core.task import Task
from sparsity_core.train import Evaluation, evaluate
from sparsity_core.weights import Masks, sparsity_of
from sparsity_core.workbench import Workbench, workbench

ENGINE = "decide"

# How a point's model does on some samples; those of a round are the same object for all points.
Sampler = Callable[[Workbench, SweepPoint, Masks, Split], Evaluation]


@dataclass(frozen=True, eq=False)
class Early:
    """A point after a round."""

    point: SweepPoint
    standing: Standing | None  # None: it cannot be measured, the row says why
    row: Result | None  # its only row, when it is settled
    seconds: float = 0.0  # up to now


def measure(
    task: Task,
    setting: Setting,
    points: Sequence[SweepPoint],
    question: Question,
    sampler: Sampler | None = None,
) -> Iterator[Result]:
    """A row for each point when its question is settled, so not in the order of `points`.

    `value`, `drop` and losses are those of the samples seen; drop_low and drop_high are where the
    drop on all samples of the setting lies. Whatever goes wrong with a point is its row's status.
    """
    for early in follow(task, setting, points, question, sampler):
        if early.row is not None:
            yield early.row


def follow(
    task: Task,
    setting: Setting,
    points: Sequence[SweepPoint],
    question: Question,
    sampler: Sampler | None = None,
) -> Iterator[Early]:
    """Every open point after every round: what `measure` waits for, as it comes about."""
    bench = workbench(task, setting)
    order = torch.randperm(setting.samples, generator=torch.Generator().manual_seed(question.order))
    trials = _Trials(bench, question, order, sampler or whole_model)
    seconds = dict.fromkeys((point.id for point in points), 0.0)
    open_points = list(points)
    for where in rounds(setting.samples):
        see = partial(trials.see, where=where, samples=bench.samples.take(order[where]))
        still_open = []
        for early in rows_of(open_points, see, trials.unmeasured):
            seconds[early.point.id] += early.seconds
            spent = seconds[early.point.id]
            if early.row is None:
                still_open.append(early.point)
                yield replace(early, seconds=spent)
            else:
                yield replace(early, seconds=spent, row=replace(early.row, seconds=spent))
        open_points = still_open


def whole_model(
    bench: Workbench,
    point: SweepPoint,  # noqa: ARG001 - for samplers that run only what is behind its layer
    masks: Masks,
    samples: Split,
) -> Evaluation:
    """The sampler that runs the whole model."""
    with masked(bench.model, masks) as model:
        return evaluate(
            model,
            samples,
            loss=bench.task.loss,
            metric=bench.task.metric,
            device=bench.setting.device,
        )


class _Trials:
    """The points under way: their masks, and what was seen of them."""

    def __init__(
        self, bench: Workbench, question: Question, order: Tensor, sampler: Sampler
    ) -> None:
        self.bench = bench
        self.question = question
        self.order = order
        self.sampler = sampler
        self.masks: dict[str, Masks] = {}
        self.seen: dict[str, list[Evaluation]] = {}
        self.standings: dict[str, Standing] = {}

    def see(self, point: SweepPoint, where: slice, samples: Split) -> Early:
        """The point after further samples, which stand at `where` in the order."""
        if point.id not in self.masks:
            if reason := self._refusal(point):
                return self.unmeasured(point, "skipped", f"{point.layer}: {reason}")
            self.masks[point.id] = self._masks(point)
            self.seen[point.id] = []
            self.standings[point.id] = Standing(self.question, len(self.order))
        pruned = self.sampler(self.bench, point, self.masks[point.id], samples)
        self.seen[point.id].append(pruned)
        dense = self.bench.dense.values[self.order[where]]
        standing = self.standings[point.id].after(_bounded(dense) - _bounded(pruned.values))
        self.standings[point.id] = standing
        return Early(point, standing, self._last_row(point) if standing.settled else None)

    def unmeasured(self, point: SweepPoint, status: str, message: str) -> Early:
        """The point without numbers."""
        row = unmeasured(self.bench.setting, point, ENGINE, status, message)
        return Early(point, None, row)

    def _refusal(self, point: SweepPoint) -> str | None:
        probe = self.bench.probe(point.seed)
        refused = refusals(probe, point.scorer, point.structure).get(point.layer)
        return refused or point.structure.refuses(point.sparsity)

    def _masks(self, point: SweepPoint) -> Masks:
        probe = self.bench.probe(point.seed)
        scores = checked_scores(probe, point.scorer, [point.layer])[point.layer]
        units = unit_scores(probe, point.layer, scores, point.scorer, point.structure)
        return masks_from_units(probe.layers[point.layer], units, point.structure, point.sparsity)

    def _last_row(self, point: SweepPoint) -> Result:
        """What was seen of the point; its masks go."""
        mask = self.masks.pop(point.id)[point.layer]
        pruned = _joined(self.seen.pop(point.id))
        standing = self.standings.pop(point.id)
        probe = self.bench.probe(point.seed)
        weight = probe.weights[point.layer]
        seen = self.order[: len(pruned.values)]
        low, high = standing.interval
        found = compare(_at(self.bench.dense, seen), pruned)
        status = "ok" if mask.any() else "collapsed"
        message = "; ".join(filter(None, (probe.layers[point.layer].note, str(standing))))
        row = replace(
            unmeasured(self.bench.setting, point, ENGINE, status, message),
            achieved_sparsity=sparsity_of((weight != 0) & mask),
            removed=removed_weights(weight, mask),
            **asdict(found) | {"drop_low": low, "drop_high": high},
        )
        if len(seen) == len(self.order):
            return row
        # An interval made for a number of samples fixed beforehand is wrong after stopping early.
        return replace(row, loss_rise_low=None, loss_rise_high=None)


def _bounded(values: Tensor) -> Tensor:
    """Metric values of single samples; SparsityError unless all are between 0 and 1."""
    if not ((values >= 0) & (values <= 1)).all():
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
