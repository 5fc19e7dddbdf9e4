"""What there is to train under moving masks, before it is started."""

from collections.abc import Sequence
from statistics import mean

from app.pace import draw_time
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.dynamic.point import MovingPoint
from sparsity_core.dynamic.row import MovingResult

_MORE = "; what rules do at their updates comes on top"


def start_label(plan: MovingPlan, rows: Sequence[MovingResult]) -> tuple[int, str]:
    """How many looks are new, and the words of the start button."""
    new = _new(plan, rows)
    if not new:
        return 0, f"All {len(plan.trainings())} networks are stored"
    networks = _networks(new)
    return len(new), f"Train {networks} network{'s' * (networks > 1)}"


def draw_cost(plan: MovingPlan, rows: Sequence[MovingResult]) -> None:
    """What there is to train, and about how long that takes here."""
    new, looks = _new(plan, rows), len(plan.looks)
    size = f"{len(plan.trainings())} networks of {plan.steps:,} steps, each looked at {looks} times"
    known = [row.seconds for row in rows if row.validation_value is not None and row.step]
    draw_time(plan, size, _networks(new), len(new) * mean(known) if known else None, _MORE)


def _new(plan: MovingPlan, rows: Sequence[MovingResult]) -> list[MovingPoint]:
    stored = {row.point_id for row in rows if row.status != "failed"}
    return [point for point in plan.points() if point.id not in stored]


def _networks(points: Sequence[MovingPoint]) -> int:
    return len({point.training.id for point in points})
