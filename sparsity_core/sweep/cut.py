"""Where groups of points are cut along the samples: large ones for workers, and large sets."""

import math

from sparsity_core.metrics import ACCURACY, METRICS
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.sweep.rerun import BATCH
from sparsity_core.sweep.share import Span
from sparsity_core.sweep.ways import EXACT, VERIFIED

UNITS = 2  # of several workers each has so many units, as the first layers take longest
LARGE = 2**15  # samples that are measured at a time, at most: less is lost with a worker
_EVEN = 0.01  # equal parts need not be equal to the last bit
_LEAST = 64  # samples of a share whose predictions do not depend on who stands beside


def spans(plan: SweepPlan, part: float, workers: int) -> list[Span]:
    """The samples of each share of a group, in order; one span where it is not cut.

    `part`: of the whole work, what the group is. A unit is at most 1 / (`UNITS` x workers) of it
    where there are several workers, and has at most `LARGE` samples. Cut between the batches of the
    reference where there are enough, and always for engines that give its bits. Early answers are
    not cut, nor what is no plain mean over samples.
    """
    samples = plan.setting.samples
    metric = METRICS.get(plan.setting.metric)
    if plan.question or metric is None or metric.of_mean:
        return [(0, samples)]
    wanted = math.ceil(UNITS * workers * part - _EVEN) if workers > 1 else 1
    wanted = max(1, wanted, -(-samples // LARGE))
    apart = plan.engine in (EXACT, VERIFIED) and metric == ACCURACY and plan.device == "cpu"
    size = -(-samples // wanted)
    step = _LEAST if apart and size < BATCH else BATCH
    size = -(-size // step) * step
    return [(first, min(first + size, samples)) for first in range(0, samples, size)]
