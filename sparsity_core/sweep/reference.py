"""One point after another, the whole model on all samples: slow, obvious, the oracle."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

from sparsity_core.comparison import compare, removed_weights
from sparsity_core.prune import checked_scores, masks_from_units, refusals, unit_scores
from sparsity_core.setting import Setting
from sparsity_core.status import rows_of
from sparsity_core.sweep.point import Result, SweepPoint, unmeasured
from sparsity_core.task import Task
from sparsity_core.train import evaluate
from sparsity_core.weights import sparsity_of
from sparsity_core.workbench import Workbench, workbench

ENGINE = "reference"


def measure(
    task: Task, setting: Setting, points: Sequence[SweepPoint], _memory: int = 0
) -> Iterator[Result]:
    """A row for each point, in order; whatever goes wrong with a point is its row's status.

    It keeps nothing between points, however much memory there is.
    """
    return rows_of(
        points,
        lambda point: _measure_one(workbench(task, setting), point),
        lambda point, *why: unmeasured(setting, point, ENGINE, *why),
    )


def _measure_one(bench: Workbench, point: SweepPoint) -> Result:
    structure = point.structure
    probe = bench.probe(point.seed)
    layer = probe.layers[point.layer]
    reason = refusals(probe, point.scorer, structure).get(point.layer) or structure.refuses(
        point.sparsity
    )
    if reason:
        return unmeasured(bench.setting, point, ENGINE, "skipped", f"{point.layer}: {reason}")
    scores = checked_scores(probe, point.scorer, [point.layer])[point.layer]
    units = unit_scores(probe, point.layer, scores, point.scorer, structure)
    masks = masks_from_units(layer, units, structure, point.sparsity)
    dense_weight = probe.weights[point.layer]
    with bench.masked(masks) as model:
        weight = dict(model.named_parameters())[point.layer]
        achieved = sparsity_of(weight != 0)
        pruned = evaluate(
            model,
            bench.samples,
            loss=bench.task.loss,
            metric=bench.task.metric,
            device=bench.setting.device,
        )
    emptied = not masks[point.layer].any()
    return replace(
        unmeasured(bench.setting, point, ENGINE, "collapsed" if emptied else "ok", layer.note),
        achieved_sparsity=achieved,
        removed=removed_weights(dense_weight, masks[point.layer]),
        **asdict(compare(bench.dense, pruned)),
    )
