"""What a ticket experiment trains: rounds x arms x rewind steps x seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any, ClassVar

from sparsity_core.batches import batch_sizes
from sparsity_core.checkpoint import of_training
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.machine import device_label, versions
from sparsity_core.recipe import Training
from sparsity_core.setting import Planned, Setting, check_same, setting_of
from sparsity_core.status import rows_of
from sparsity_core.task import Task
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.fresh import origin
from sparsity_core.tickets.row import UNMEASURED, TicketResult
from sparsity_core.tickets.rule import Rule
from sparsity_core.tickets.trial import measure

_LOOKS = 50  # at the validation split, when nothing else is asked for


@dataclass(frozen=True)
class TicketPoint:
    """One training."""

    seed: int
    arm: str
    rewind: int
    round: int
    id: str


@dataclass(frozen=True)
class TicketPlan(Planned):
    """What to train and how; made by `plan_tickets`."""

    kind: ClassVar[str] = "tickets"
    setting: Setting
    validation_digest: str  # the split that finds the early stop
    fresh_digest: str  # the untrained model of seed 0
    training: Training  # with `steps`
    rule: Rule
    rounds: int
    every: int  # steps between two looks at the validation split
    arms: tuple[str, ...] = ("ticket",)
    rewinds: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    control_rounds: tuple[int, ...] = ()  # of arms that are no chains; empty = all

    @property
    def title(self) -> str:
        """One line for lists of runs."""
        return f"{self.model}: tickets, {self.rounds} rounds, {', '.join(self.arms)}"

    def points(self) -> list[TicketPoint]:
        """All points: seed by seed, each round after those that it builds on."""
        return [
            self.point(seed, arm, rewind, number)
            for seed in self.seeds
            for number in range(self.rounds + 1)
            for arm in self.arms
            for rewind in self._rewinds_of(arm, number)
        ]

    def point(self, seed: int, arm: str, rewind: int, number: int) -> TicketPoint:
        """One point; the dense training is the same whatever is rewound to."""
        if arm in ("ticket", "corrupted-finder") and number == 0:
            rewind = 0
        return TicketPoint(seed, arm, rewind, number, self._id(seed, arm, rewind, number))

    def groups(self, points: Sequence[TicketPoint]) -> list[list[TicketPoint]]:
        """Seed by seed, for the rounds of one build on each other."""
        return [list(group) for _, group in groupby(points, lambda point: point.seed)]

    def run(self, task: Task, points: Sequence[TicketPoint]) -> Iterator[TicketResult]:
        """A row for each point, in order; a point's own trouble is its row's status.

        Trainings save themselves in `checkpoints` beside the job's store.
        """
        return rows_of(points, lambda point: measure(task, self, point), self.unmeasured)

    def unmeasured(self, point: TicketPoint, status: str, message: str) -> TicketResult:
        """A row without numbers."""
        return TicketResult(
            model=self.model,
            arm=point.arm,
            rewind=point.rewind,
            round=point.round,
            seed=point.seed,
            steps=self.steps,
            metric=self.setting.metric,
            split=self.setting.split,
            status=status,
            message=message,
            seconds=0.0,
            device=device_label(self.device),
            versions=versions(),
            point_id=point.id,
            **UNMEASURED,
        )

    @property
    def steps(self) -> int:
        """Of each training."""
        assert self.training.steps is not None  # plan_tickets counted them
        return self.training.steps

    def check(self, task: Task) -> None:
        """Raise SparsityError when model, first weights or data are not the planned ones."""
        super().check(task)
        check_same(self.model, origin(task), self)

    def saved_under(self) -> set[str]:
        """Of each training's files."""
        return {name for point in self.points() for name in of_training(point.id)}

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "kind": self.kind,
            "setting": asdict(self.setting),
            "validation_digest": self.validation_digest,
            "fresh_digest": self.fresh_digest,
            "training": self.training.to_dict(),
            "rule": asdict(self.rule),
            "rounds": self.rounds,
            "every": self.every,
            "arms": list(self.arms),
            "rewinds": list(self.rewinds),
            "seeds": list(self.seeds),
            "control_rounds": list(self.control_rounds),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TicketPlan":
        """The plan from plain data."""
        plain = {name: value for name, value in data.items() if name != "kind"}
        return cls(
            **plain
            | {
                "setting": Setting(**data["setting"]),
                "training": Training.from_dict(data["training"]),
                "rule": Rule(**data["rule"]),
                **{n: tuple(data[n]) for n in ("arms", "rewinds", "seeds", "control_rounds")},
            }
        )

    def _rewinds_of(self, arm: str, number: int) -> tuple[int, ...]:
        if number == 0 and not ARMS[arm].dense_too:
            return ()
        if number == 0 and arm in ("ticket", "corrupted-finder"):
            return (0,)
        if number == self.rounds and arm == "corrupted-finder":
            return ()  # nothing builds on it
        if self.control_rounds and not ARMS[arm].chain and number not in self.control_rounds:
            return ()
        # Nothing is rewound of what is pruned before training: once is enough.
        return self.rewinds[:1] if ARMS[arm].scorer else self.rewinds

    @cached_property
    def _where(self) -> str:
        """What all points share."""
        return digest_of(
            {
                "kind": self.kind,
                "setting": asdict(self.setting),
                "validation": self.validation_digest,
                "fresh": self.fresh_digest,
                "training": self.training.identity(),
                "rule": asdict(self.rule),
                "every": self.every,
            }
        )

    def _id(self, seed: int, arm: str, rewind: int, number: int) -> str:
        return digest_of([self._where, seed, arm, rewind, number])


def plan_tickets(
    task: Task,
    *,
    training: Training,
    rounds: int,
    rule: Rule | None = None,
    arms: Sequence[str] = ("ticket",),
    rewinds: Sequence[int] = (0,),
    seeds: Sequence[int] = (0,),
    control_rounds: Sequence[int] = (),
    every: int | None = None,
    split: str = "test",
    **where: Any,
) -> TicketPlan:
    """A plan with every number checked; `where` goes to `setting_of`.

    The ticket is always among the arms, and so is what finds masks on corrupted data, when others
    build on it. `every` steps (a fiftieth of
    the training when None) the validation split is looked at; `split` reports. Raises
    SparsityError for an empty selection or bad numbers.
    """
    for what, chosen in (("arms", arms), ("rewinds", rewinds), ("seeds", seeds)):
        if not len(chosen):
            raise SparsityError(f"no {what} chosen; choose at least one")
    for arm in arms:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS)
    if rounds < 0:
        raise SparsityError(f"rounds must be 0 or more, got {rounds}")
    steps = training.steps
    if steps is None:
        sizes = batch_sizes(task.model, task.train, training.batch_size)
        steps = training.epochs * len(sizes)
    if steps < 1:
        raise SparsityError("a ticket needs at least one step of training; raise epochs or steps")
    for rewind in rewinds:
        if not 0 <= rewind < steps:
            raise SparsityError(f"rewind to a step from 0 to {steps - 1}, got {rewind}")
    if every is not None and every < 1:
        raise SparsityError(f"every must be 1 or more steps, got {every}")
    for number in control_rounds:
        if not 0 <= number <= rounds:
            raise SparsityError(f"control rounds are from 0 to {rounds}, got {number}")
    wanted = {"ticket", *arms} | ({"corrupted-finder"} if "corrupted" in arms else set())
    return TicketPlan(
        setting=setting_of(task, split=split, **where),
        **origin(task),
        # Steps and epochs that mean the same are one plan.
        training=replace(training, epochs=Training().epochs, steps=steps),
        rule=rule or Rule(),
        rounds=rounds,
        every=every or max(1, steps // _LOOKS),
        arms=tuple(arm for arm in ARMS if arm in wanted),
        rewinds=tuple(sorted(set(rewinds))),
        seeds=tuple(dict.fromkeys(seeds)),
        control_rounds=tuple(sorted(set(control_rounds))),
    )
