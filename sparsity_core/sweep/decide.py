"""Early answers: all points see a few samples, then more, and each stops once it is settled."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from sparsity_core.data import Split
from sparsity_core.setting import Setting
from sparsity_core.status import rows_of
from sparsity_core.sweep.point import Result, SweepPoint
from sparsity_core.sweep.sequential import Question, rounds
from sparsity_core.sweep.share import Part
from sparsity_core.sweep.trials import ENGINE, Early, Sampler, Trials
from sparsity_core.task import Task
from sparsity_core.train import Evaluation, evaluate
from sparsity_core.weights import Masks
from sparsity_core.workbench import Workbench, workbench

_TELLING = 0.1  # share of the time that telling of open points may take: intervals are searched for

Sampling = Callable[[Workbench], Sampler]


def measure(
    task: Task,
    setting: Setting,
    points: Sequence[SweepPoint],
    question: Question,
    sampling: Sampling | None = None,
    told: bool = False,
    engine: str = ENGINE,
    wholes: Mapping[str, str] | None = None,
) -> Iterator[Result | Part]:
    """A row for each point when its question is settled, so not in the order of `points`.

    With `told` also rows with status `open` about the others, as often as takes little time, and
    before its row what a point has seen, as a part of the full measurement whose id `wholes` has by
    the point's. `sampling` says how some samples are measured, `engine` how the rows call that.

    All numbers are of all samples of the setting: drop_low and drop_high are where the drop lies,
    `value`, `drop` and losses are estimates as long as not all samples were seen. Whatever goes
    wrong with a point is its row's status.
    """
    started, telling = time.perf_counter(), 0.0
    for early in follow(task, setting, points, question, sampling, engine, wholes):
        if early.row is not None:
            if told and early.part:
                yield replace(early.part, seconds=early.seconds)
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
    engine: str = ENGINE,
    wholes: Mapping[str, str] | None = None,
) -> Iterator[Early]:
    """Every open point after every round: what `measure` waits for, as it comes about.

    All levels of a layer come together, so that what is before it runs once. Holds of each layer
    with open points what its masks are made from: a byte for each weight, whatever the number of
    sparsities, where one order ranks all.
    """
    bench = workbench(task, setting)
    trials = Trials(bench, points, question, (sampling or whole_model)(bench), engine, wholes)
    seconds = dict.fromkeys((point.id for point in points), 0.0)
    open_points = list(points)
    for where in rounds(setting.samples):
        trials.begin(where, open_points)
        still_open = []
        for early in rows_of(open_points, trials.see, trials.unmeasured):
            seconds[early.point.id] += early.seconds
            spent = seconds[early.point.id]
            if early.row is None:
                still_open.append(early.point)
                yield replace(early, seconds=spent)
            else:
                yield replace(early, seconds=spent, row=replace(early.row, seconds=spent))
        open_points = still_open


def whole_model(bench: Workbench, _memory: int = 0) -> Sampler:
    """The sampler that runs the whole model, and keeps nothing for the next point."""

    def sample(
        _layer: str, variants: Sequence[Masks], samples: Split
    ) -> Callable[[int], Evaluation]:
        def of(variant: int) -> Evaluation:
            with bench.masked(variants[variant]) as model:
                return evaluate(
                    model,
                    samples,
                    loss=bench.task.loss,
                    metric=bench.task.metric,
                    device=bench.setting.device,
                )

        return of

    return sample
