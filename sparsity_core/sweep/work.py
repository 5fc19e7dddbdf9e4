"""How much work each point of a sweep is, so that the time left can be foretold."""

from collections.abc import Mapping
from itertools import accumulate

from sparsity_core.cost import Cost
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.sweep.point import SweepPoint
from sparsity_core.weights import Prunable


def work_of(plan: SweepPlan, cost: Cost, layers: Mapping[str, Prunable]) -> dict[str, float]:
    """Multiply-adds for one sample by point id: of the layer and all after it, in model order.

    The whole model's with the engine `reference`; nothing for points that will be skipped. Early
    answers take the same for each sample, but how many samples nobody knows.
    """
    names = [layer.name for layer in cost.layers]
    own = [layer.macs for layer in cost.layers]
    behind = dict(zip(reversed(names), accumulate(reversed(own)), strict=True))
    # What has no weights, attention above all, is spread like the rest.
    share = 1 + cost.other_macs / max(1, sum(own))

    def work(point: SweepPoint) -> float:
        layer, structure = layers[point.layer], point.structure
        unfit = structure.of(layer).fits(layer.shape, layer.groups)
        if unfit or structure.refuses(point.sparsity):
            return 0.0
        return float(cost.macs if plan.engine == "reference" else share * behind[point.layer])

    return {point.id: work(point) for point in plan.points()}
