"""What there is of tickets to train, before it is started."""

from collections.abc import Sequence
from statistics import median

from app.pace import draw_time
from sparsity_core.tickets.estimate import size_of
from sparsity_core.tickets.plan import TicketPlan
from sparsity_core.tickets.row import TicketResult

_ENOUGH = 3  # trainings of the plan whose time tells more than a trial


def start_label(plan: TicketPlan, rows: Sequence[TicketResult]) -> tuple[int, str]:
    """How many trainings are new, and the words of the start button."""
    stored = {row.point_id for row in rows if row.status != "failed"}
    new = sum(point.id not in stored for point in plan.points())
    if not new:
        return 0, f"All {len(stored)} trainings are stored"
    return new, f"Train {new} networks" + (f" ({len(stored)} stored)" if stored else "")


def draw_cost(plan: TicketPlan, rows: Sequence[TicketResult]) -> None:
    """What there is to train, and about how long that takes here."""
    new, _ = start_label(plan, rows)
    known = [row.seconds for row in rows if row.value is not None]
    as_before = new * median(known) if len(known) >= _ENOUGH else None
    draw_time(plan, size_of(plan), new, as_before)
