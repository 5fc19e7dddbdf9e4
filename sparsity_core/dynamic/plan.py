"""What an experiment with moving masks trains: rules x sparsities x seeds, looked at on the way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, ClassVar

from sparsity_core.allocations import ALLOCATIONS, Allocation
from sparsity_core.checkpoint import of_training
from sparsity_core.digest import digest_of
from sparsity_core.dynamic.fixed import Dense
from sparsity_core.dynamic.point import MovingPoint, OneTraining
from sparsity_core.dynamic.rigl import RigL
from sparsity_core.dynamic.row import MEASURED, MovingResult
from sparsity_core.dynamic.rule import RULES, UpdateRule
from sparsity_core.dynamic.trial import Trial
from sparsity_core.machine import device_label, versions
from sparsity_core.recipe import Training
from sparsity_core.setting import Planned, Setting, check_same
from sparsity_core.status import rows_of
from sparsity_core.task import Task
from sparsity_core.tickets.fresh import origin


@dataclass(frozen=True)
class MovingPlan(Planned):
    """What to train and how; made by `planning.plan_moving`."""

    kind: ClassVar[str] = "moving"
    setting: Setting
    validation_digest: str  # the split that is looked at on the way
    fresh_digest: str  # the untrained model of seed 0
    training: Training  # with `steps`
    rules: tuple[UpdateRule, ...]
    sparsities: tuple[float, ...]
    allocation: Allocation
    every: int  # steps between two looks
    seeds: tuple[int, ...] = (0,)
    skip: tuple[str, ...] = ()
    matched: bool = False  # RigL at the layer counts that each learned sparsity came to
    execution: str = "simulated"

    @property
    def title(self) -> str:
        """One line for lists of runs."""
        names = ", ".join(RULES.label(rule) for rule in self.rules)
        shares = ", ".join(f"{s:.4g}" for s in self.sparsities)
        return f"{self.model}: moving masks, {names} at {shares}"

    @property
    def steps(self) -> int:
        """Of each training."""
        assert self.training.steps is not None  # plan_moving counted them
        return self.training.steps

    def execution_of(self, rule: UpdateRule) -> str:
        """How a rule's network is trained; the dense one is never sparse."""
        return "simulated" if isinstance(rule, Dense) else self.execution

    @property
    def looks(self) -> list[int]:
        """The steps after which a network is measured."""
        return [*range(0, self.steps, self.every), self.steps]

    def trainings(self) -> list[OneTraining]:
        """All networks: seed by seed, each after what it builds on."""
        found = []
        for seed in self.seeds:
            for rule in self.rules:
                found += [self.one(seed, rule, s) for s in self._sparsities_of(rule)]
                if rule.learns_sparsity and self.matched:
                    found.append(self.one(seed, self._matching, None, rule))
        return found

    def one(
        self,
        seed: int,
        rule: UpdateRule,
        sparsity: float | None,
        matched: UpdateRule | None = None,
    ) -> OneTraining:
        """A network by what names it."""
        names = [self._where, seed, RULES.identity(rule), sparsity]
        names += [RULES.identity(matched)] if matched else []
        return OneTraining(seed, rule, sparsity, matched, digest_of(names))

    def points(self) -> list[MovingPoint]:
        """All looks, network by network."""
        return [
            MovingPoint(training, step, digest_of([training.id, step]))
            for training in self.trainings()
            for step in self.looks
        ]

    def groups(self, points: Sequence[MovingPoint]) -> list[list[MovingPoint]]:
        """Network by network."""
        return [list(group) for _, group in groupby(points, lambda point: point.training)]

    def run(self, task: Task, points: Sequence[MovingPoint]) -> Iterator[MovingResult]:
        """A row for each point as training gets there; trouble is the status of what follows.

        Trainings save themselves in `checkpoints` beside the job's store.
        """
        for group in self.groups(points):
            trial = Trial(task, self, group[0].training)
            yield from rows_of(group, trial.measure, self.unmeasured)

    def unmeasured(self, point: MovingPoint, status: str, message: str) -> MovingResult:
        """A row without numbers."""
        training = point.training
        return MovingResult(
            model=self.model,
            rule=RULES.label(training.rule),
            allocation=ALLOCATIONS.label(self.allocation),
            sparsity=training.sparsity,
            matched=RULES.label(training.matched) if training.matched else "",
            seed=training.seed,
            step=point.step,
            steps=self.steps,
            execution=self.execution_of(training.rule),
            metric=self.setting.metric,
            layers="",
            split=self.setting.split if point.step == self.steps else "validation",
            status=status,
            message=message,
            seconds=0.0,
            device=device_label(self.device),
            versions=versions(),
            point_id=point.id,
            **dict.fromkeys(MEASURED),
        )

    def check(self, task: Task) -> None:
        """Raise SparsityError when model, first weights or data are not the planned ones."""
        super().check(task)
        check_same(self.model, origin(task), self)

    def saved_under(self) -> set[str]:
        """Of each training's files."""
        return {name for training in self.trainings() for name in of_training(training.id)}

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "kind": self.kind,
            "setting": asdict(self.setting),
            "validation_digest": self.validation_digest,
            "fresh_digest": self.fresh_digest,
            "training": self.training.to_dict(),
            "rules": [RULES.to_dict(rule) for rule in self.rules],
            "sparsities": list(self.sparsities),
            "allocation": ALLOCATIONS.to_dict(self.allocation),
            "every": self.every,
            "seeds": list(self.seeds),
            "skip": list(self.skip),
            "matched": self.matched,
            "execution": self.execution,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "MovingPlan":
        """The plan from plain data."""
        plain = {name: value for name, value in data.items() if name != "kind"}
        return cls(
            **plain
            | {
                "setting": Setting(**data["setting"]),
                "training": Training.from_dict(data["training"]),
                "rules": tuple(RULES.from_dict(rule) for rule in data["rules"]),
                "allocation": ALLOCATIONS.from_dict(data["allocation"]),
                **{name: tuple(data[name]) for name in ("sparsities", "seeds", "skip")},
            }
        )

    def _sparsities_of(self, rule: UpdateRule) -> tuple[float | None, ...]:
        if isinstance(rule, Dense):
            return (0.0,)
        if rule.learns_sparsity:
            return (None,)
        return self.sparsities if rule.fixed_sparsity is None else (rule.fixed_sparsity,)

    @property
    def _matching(self) -> RigL:
        return next((rule for rule in self.rules if isinstance(rule, RigL)), RigL())

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
                "allocation": ALLOCATIONS.identity(self.allocation),
                "every": self.every,
                "skip": list(self.skip),
                "execution": self.execution,
            }
        )
