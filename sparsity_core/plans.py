"""What every kind of plan has in common, and the kinds there are.

A plan is plain data that names points to be measured. Jobs, workers and the store know plans,
points and rows only through these protocols.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Protocol

from sparsity_core.curve import CurvePlan
from sparsity_core.curve_row import CurveResult
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.dynamic.row import MovingResult
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.kernels.latency import LatencyPlan
from sparsity_core.kernels.latency_row import LatencyRow
from sparsity_core.kernels.plan import KernelPlan
from sparsity_core.kernels.row import KernelRow
from sparsity_core.sweep.plan import SweepPlan
from sparsity_core.sweep.point import Result
from sparsity_core.sweep.share import Part, is_part, part_from_dict, share_of
from sparsity_core.task import Task
from sparsity_core.tickets.plan import TicketPlan
from sparsity_core.tickets.row import TicketResult


class Point(Protocol):
    """One measurement to be made, named by everything that decides its result."""

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""


class Row(Protocol):
    """One measurement made; a frozen dataclass whose other fields are columns too."""

    @property
    def point_id(self) -> str:
        """The id of the point."""

    @property
    def status(self) -> str:
        """One of STATUSES."""

    @property
    def message(self) -> str:
        """Why the status is not ok, or what to know besides."""

    @property
    def seconds(self) -> float:
        """How long the measurement took."""

    @property
    def device(self) -> str:
        """What it ran on."""

    @property
    def versions(self) -> str:
        """The versions that decided it."""


class Plan(Protocol):
    """Points, the way to measure them, and the model they belong to."""

    kind: ClassVar[str]

    @property
    def model(self) -> str:
        """What `load_task` takes."""

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""

    @property
    def digest(self) -> str:
        """A name that equal plans share."""

    @property
    def title(self) -> str:
        """One line for lists of runs."""

    def points(self) -> Sequence[Point]:
        """All points, ids unique, always in the same order."""

    def groups(self, points: Sequence[Any]) -> list[list[Any]]:
        """The points as units of work, in the order in which results should arrive."""

    def check(self, task: Task) -> None:
        """Raise SparsityError when the task is not the one that was planned for."""

    def run(self, task: Task, points: Sequence[Any]) -> Iterator[Any]:
        """A row for each point as it gets ready; a point's own trouble is its row's status."""

    def unmeasured(self, point: Any, status: str, message: str) -> Any:
        """The row of a point that could not be measured at all."""

    def saved_under(self) -> set[str]:
        """Names under which work on its points is saved: of parts in the store, or of files."""

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data; `plan_from_dict` reads it back."""


AnyPlan = SweepPlan | CurvePlan | TicketPlan | KernelPlan | LatencyPlan | MovingPlan
AnyRow = Result | CurveResult | TicketResult | KernelRow | LatencyRow | MovingResult
PLANS: dict[str, type[AnyPlan]] = {
    SweepPlan.kind: SweepPlan,
    CurvePlan.kind: CurvePlan,
    TicketPlan.kind: TicketPlan,
    KernelPlan.kind: KernelPlan,
    LatencyPlan.kind: LatencyPlan,
    MovingPlan.kind: MovingPlan,
}
ROWS: dict[str, type[AnyRow]] = {
    SweepPlan.kind: Result,
    CurvePlan.kind: CurveResult,
    TicketPlan.kind: TicketResult,
    KernelPlan.kind: KernelRow,
    LatencyPlan.kind: LatencyRow,
    MovingPlan.kind: MovingResult,
}


def plan_from_dict(data: Mapping[str, Any]) -> AnyPlan:
    """The plan that `to_dict` described."""
    kind = data.get("kind")
    if kind not in PLANS:
        raise unknown("kind of plan", str(kind), PLANS)
    return PLANS[kind].from_dict(data)


def groups_for(plan: Plan, points: Sequence[Any], workers: int) -> list[list[Any]]:
    """A plan's units of work for so many workers, in the order in which they are taken up."""
    if isinstance(plan, SweepPlan):
        return plan.groups_for(points, workers)
    return plan.groups(points)


def watch(plan: Plan, task: Task, points: Sequence[Any]) -> Iterator[Any]:
    """A row for each point, and rows with status `open` that tell of points under way."""
    if isinstance(plan, SweepPlan | CurvePlan):
        return plan.watch(task, points)
    return plan.run(task, points)


def prepare(plan: Plan, task: Task) -> None:
    """Compute what all points of a plan need, so that the first one comes sooner."""
    if isinstance(plan, SweepPlan):
        plan.prepare(task)


def units_named(points: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """What a worker is given by id: points, or shares of points."""
    return [share_of(name, points) if is_part(name) else points[name] for name in names]


def row_from_dict(kind: str, data: Mapping[str, Any]) -> AnyRow | Part:
    """The row, or the part of one, that `dataclasses.asdict` made.

    Columns that an older version lacked are None.
    """
    if is_part(data.get("point_id", "")):
        return part_from_dict(data)
    if kind not in ROWS:
        raise unknown("kind of row", kind, ROWS)
    known = {field.name for field in fields(ROWS[kind])}
    if extra := sorted(set(data) - known):
        raise SparsityError(
            f"a stored {kind} row has the unknown column {extra[0]!r}; "
            "it comes from a newer version: update Sparsity Explorer or choose another store"
        )
    return ROWS[kind](**(dict.fromkeys(known) | dict(data)))  # type: ignore[arg-type]
