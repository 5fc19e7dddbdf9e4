"""A sensitivity sweep as plain data: layers x scorers x structures x sparsities x seeds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, product
from typing import Any, ClassVar, TypeVar

import torch

from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError
from sparsity_core.scorers import SCORERS, Random, Scorer
from sparsity_core.setting import Planned, Setting, setting_of
from sparsity_core.structures import STRUCTURES, Structure
from sparsity_core.sweep import decide, parts
from sparsity_core.sweep.engines import ENGINES, FAST, SAMPLERS, engine_named
from sparsity_core.sweep.point import Result, SweepPoint, unmeasured
from sparsity_core.sweep.rerun import BUDGET
from sparsity_core.sweep.sequential import Question
from sparsity_core.sweep.share import Part, Share, blank
from sparsity_core.sweep.trials import ENGINE as EARLY
from sparsity_core.sweep.verdict import verdict
from sparsity_core.sweep.ways import ways
from sparsity_core.task import Task
from sparsity_core.weights import canonical_names, check_sparsity, prunable
from sparsity_core.workbench import workbench

T = TypeVar("T")


@dataclass(frozen=True)
class SweepPlan(Planned):
    """What to measure, on which model and samples; made by `plan_sweep`."""

    kind: ClassVar[str] = "sweep"
    setting: Setting
    layers: tuple[str, ...]
    scorers: tuple[Scorer, ...]
    structures: tuple[Structure, ...]
    sparsities: tuple[float, ...]
    seeds: tuple[int, ...] = (0,)
    engine: str = "reference"
    question: Question | None = None  # each point only until this is settled; None = all samples
    memory: int = BUDGET  # bytes of dense values kept between layers; changes no number, no id

    @property
    def title(self) -> str:
        """One line for lists of runs."""
        scorers = ", ".join(map(SCORERS.label, self.scorers))
        structures = ", ".join(map(STRUCTURES.label, self.structures))
        layers = f"{len(self.layers)} layer{'s' if len(self.layers) > 1 else ''}"
        asked = f", {self.question}" if self.question else ""
        return f"{self.model}: sensitivity of {layers}, {scorers} x {structures}{asked}"

    @property
    def whole(self) -> "SweepPlan":
        """The same points on every sample, in the same order."""
        return replace(self, question=None)

    def points(self) -> list[SweepPoint]:
        """All points; those that share a scoring stand together.

        A scorer that neither looks at samples nor draws is measured with the first seed alone.
        """
        where = digest_of(asdict(self.setting))
        points = []
        for seed, scorer in product(self.seeds, self.scorers):
            if seed != self.seeds[0] and not _varies(scorer):
                continue
            for rest in product(self.structures, self.layers, self.sparsities):
                structure, layer, sparsity = rest
                name = self._id(where, seed, scorer, *rest)
                points.append(SweepPoint(layer, scorer, structure, sparsity, seed, name))
        return points

    def groups(self, points: Sequence[SweepPoint]) -> list[list[SweepPoint]]:
        """One group a (seed, scorer, structure, layer)."""
        return [
            list(group)
            for _, group in groupby(points, lambda p: (p.seed, p.scorer, p.structure, p.layer))
        ]

    def groups_for(self, points: Sequence[SweepPoint], workers: int) -> list[list[SweepPoint]]:
        """As `groups`; of early answers, all layers at once, dealt out to the workers.

        So every point has its first samples before any has its last.
        """
        if not self.question:
            return self.groups(points)
        dealt = []
        for _, group in groupby(points, lambda p: (p.seed, p.scorer, p.structure)):
            layers = [list(own) for _, own in groupby(group, lambda p: p.layer)]
            hands = [layers[i::workers] for i in range(min(workers, len(layers)))]
            dealt += [[point for own in hand for point in own] for hand in hands]
        return dealt

    def prepare(self, task: Task) -> None:
        """Compute what all points need: the dense model's numbers, its program, a first probe."""
        _ = workbench(task, self.setting).probe(self.seeds[0]).uses
        if self.engine == "reference":
            _ = workbench(task, self.setting).dense
        else:
            ways(workbench(task, self.setting), self.engine, self.memory).to(self.layers[0])
            verdict(torch.zeros(1, 2))  # numba takes a second to load

    def watch(self, task: Task, units: Sequence[Any]) -> Iterator[Result | Part]:
        """As `run`; early answers also tell how far each point is. Of shares their parts."""
        if units and isinstance(units[0], Share):
            return parts.measure(task, self.setting, units, self.engine, self.memory)
        return self._early(task, units, told=True) if self.question else self.run(task, units)

    def run(self, task: Task, points: Sequence[SweepPoint]) -> Iterator[Any]:
        """A row for each point, by the plan's engine."""
        if self.question:
            return self._early(task, points, told=False)
        return ENGINES[self.engine](task, self.setting, points, self.memory)

    def unmeasured(self, point: SweepPoint | Share, status: str, message: str) -> Any:
        """A row without numbers, or a part."""
        if isinstance(point, Share):
            return blank(self.setting, point, self.engine, status, message)
        return unmeasured(self.setting, point, self._row_engine, status, message)

    def saved_under(self) -> set[str]:
        """Of the parts of each point: early answers leave those of the whole points."""
        return {point.id for point in self.whole.points()}

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "kind": self.kind,
            "setting": asdict(self.setting),
            "layers": list(self.layers),
            "scorers": [SCORERS.to_dict(scorer) for scorer in self.scorers],
            "structures": [STRUCTURES.to_dict(structure) for structure in self.structures],
            "sparsities": list(self.sparsities),
            "seeds": list(self.seeds),
            "engine": self.engine,
            **self._asked(),
            **({"memory": self.memory} if self.memory != BUDGET else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SweepPlan":
        """The plan from plain data."""
        return cls(
            setting=Setting(**data["setting"]),
            layers=tuple(data["layers"]),
            scorers=tuple(map(SCORERS.from_dict, data["scorers"])),
            structures=tuple(map(STRUCTURES.from_dict, data["structures"])),
            sparsities=tuple(data["sparsities"]),
            seeds=tuple(data["seeds"]),
            engine=data["engine"],
            question=Question(**data["question"]) if "question" in data else None,
            memory=data.get("memory", BUDGET),
        )

    def _early(
        self, task: Task, points: Sequence[SweepPoint], told: bool
    ) -> Iterator[Result | Part]:
        assert self.question
        sampler = SAMPLERS[self.engine]
        return decide.measure(
            task,
            self.setting,
            points,
            self.question,
            lambda bench: sampler(bench, self.memory),
            told,
            self._row_engine,
            self._wholes() if told else None,
        )

    def _wholes(self) -> dict[str, str]:
        """By the id of each point that of the same point on every sample."""
        pairs = zip(self.points(), self.whole.points(), strict=True)
        return {point.id: whole.id for point, whole in pairs}

    @property
    def _row_engine(self) -> str:
        """How rows name what measured them."""
        return f"{EARLY}, {self.engine}" if self.question else self.engine

    def _asked(self) -> dict[str, Any]:
        """The question as plain data; nothing without one, so that ids are as they always were."""
        return {"question": asdict(self.question)} if self.question else {}

    def _id(
        self,
        where: str,
        seed: int,
        scorer: Scorer,
        structure: Structure,
        layer: str,
        sparsity: float,
    ) -> str:
        return digest_of(
            {
                "kind": self.kind,
                "setting": where,
                "layer": layer,
                "scorer": SCORERS.identity(scorer),
                "structure": STRUCTURES.identity(structure),
                "sparsity": sparsity,
                "seed": seed,
                "engine": self.engine,
                **self._asked(),
            }
        )


def plan_sweep(
    task: Task,
    *,
    layers: Sequence[str] = ("all",),
    scorers: Sequence[str | Scorer] = ("magnitude",),
    structures: Sequence[str | Structure] = ("unstructured",),
    sparsities: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95),
    seeds: Sequence[int] = (0,),
    engine: str = FAST,
    question: Question | None = None,
    memory: int = BUDGET,
    **where: Any,
) -> SweepPlan:
    """A plan with every name resolved and every number checked; `where` goes to `setting_of`.

    Layers: parameter or module names, `first`, `last`, or `all`. With a `question` each point stops
    when it is settled; its error rate is that of the whole plan, whatever points it gave. Raises
    SparsityError for an empty selection, an unknown name (with the nearest known one) or a sparsity
    outside 0..1, or less than no memory (bytes of dense values that an engine may keep).
    """
    for what, chosen in (
        ("layers", layers),
        ("scorers", scorers),
        ("structures", structures),
        ("sparsities", sparsities),
        ("seeds", seeds),
    ):
        if not len(chosen):
            raise SparsityError(f"no {what} chosen; choose at least one")
    setting = setting_of(task, **where)
    if memory < 0:
        raise SparsityError(f"memory must be 0 bytes or more, got {memory}")
    known = canonical_names(task.model, layers if "all" not in layers else prunable(task.model))
    plan = SweepPlan(
        setting=setting,
        layers=tuple(known),
        scorers=_unique(SCORERS.make(s) if isinstance(s, str) else s for s in scorers),
        structures=_unique(STRUCTURES.make(s) if isinstance(s, str) else s for s in structures),
        sparsities=tuple(sorted({check_sparsity(s) for s in sparsities})),
        seeds=_unique(seeds),
        engine=engine_named(engine, setting.device, early=question is not None),
        memory=memory,
    )
    family = len(plan.points())
    return replace(plan, question=replace(question, points=family)) if question else plan


def _varies(scorer: Scorer) -> bool:
    """Does it score otherwise with another seed?"""
    return scorer.needs_data or isinstance(scorer, Random)


def _unique(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))
