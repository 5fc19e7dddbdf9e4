"""Whole pruned models timed before and after packing, layer by layer: which layers pay."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any, ClassVar

from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError
from sparsity_core.kernels.before_after import before_after
from sparsity_core.kernels.latency_row import WHOLE, LatencyRow
from sparsity_core.kernels.peaks import cpu_label, kernel_versions
from sparsity_core.recipe import Recipe
from sparsity_core.rounds import run
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import Task
from sparsity_core.weights import prunable


@dataclass(frozen=True)
class LatencyPoint:
    """One layer, or WHOLE, at one batch."""

    layer: str
    batch: int
    id: str


@dataclass(frozen=True)
class LatencyPlan:
    """A model, a recipe and the batches at which it is timed; made by `plan_latency`."""

    kind: ClassVar[str] = "latency"
    device: ClassVar[str] = "cpu"
    machine: str
    versions: str
    model: str
    model_digest: str
    layers: tuple[str, ...]
    recipe: Recipe
    batches: tuple[int, ...]
    threads: int = 1
    fold: bool = True
    others: bool = False  # torch.compile and onnxruntime as well
    seed: int = 0

    @property
    def digest(self) -> str:
        """A name that equal plans share."""
        return digest_of(self.to_dict())

    @property
    def title(self) -> str:
        """One line for lists of runs."""
        batches = ", ".join(map(str, self.batches))
        return f"{self.model}: before and after packing, {recipe_label(self.recipe)}, {batches}"

    def points(self) -> list[LatencyPoint]:
        """The whole model and its layers, batch by batch."""
        fixed = {k: v for k, v in self.to_dict().items() if k not in ("layers", "batches")}
        where = digest_of(fixed)
        return [
            LatencyPoint(layer, batch, digest_of([where, layer, batch]))
            for batch, layer in product(self.batches, (WHOLE, *self.layers))
        ]

    def groups(self, points: Sequence[LatencyPoint]) -> list[list[LatencyPoint]]:
        """All of one batch: they are timed together."""
        return [list(group) for _, group in groupby(points, lambda point: point.batch)]

    def check(self, task: Task) -> None:
        """Raise SparsityError when machine, versions or model are not the planned ones."""
        here = (cpu_label(), kernel_versions(), task.model_digest)
        if here != (self.machine, self.versions, self.model_digest):
            raise SparsityError(
                f"{self.model}: model, machine or versions are not those of the plan "
                f"({self.machine}; {self.versions}); plan again"
            )

    def run(self, task: Task, points: Sequence[LatencyPoint]) -> Iterator[LatencyRow]:
        """A row for each point, batch by batch; trouble is a row's status."""
        for batch, group in groupby(points, lambda point: point.batch):
            asked = list(group)
            try:
                rows = self._measure(task, batch)
            except Exception as error:  # noqa: BLE001 - a failed point is a row, whatever failed
                message = str(error) if isinstance(error, SparsityError) else repr(error)
                yield from (self.unmeasured(point, "failed", message) for point in asked)
                continue
            for point in asked:
                yield dataclasses.replace(rows[point.layer], point_id=point.id)

    def unmeasured(self, point: LatencyPoint, status: str, message: str) -> LatencyRow:
        """A row without numbers."""
        return LatencyRow(
            model=self.model,
            layer=point.layer,
            batch=point.batch,
            threads=self.threads,
            folded=self.fold,
            recipe=recipe_label(self.recipe),
            kernel="",
            status=status,
            message=message,
            seconds=0.0,
            device=f"cpu: {cpu_label()}",
            versions=kernel_versions(),
            point_id=point.id,
            **dict.fromkeys(_MEASURED),
        )

    def saved_under(self) -> set[str]:
        """None: a timing takes seconds."""
        return set()

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data; `setting` is what a worker loads its model for."""
        setting = {"model": self.model, "model_digest": self.model_digest}
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        lists = {"layers": list(self.layers), "batches": list(self.batches)}
        return {"kind": self.kind, "setting": setting, **plain, **lists} | {
            "recipe": self.recipe.to_dict()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "LatencyPlan":
        """The plan from plain data."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(
            **{k: v for k, v in data.items() if k in known}
            | {
                "layers": tuple(data["layers"]),
                "batches": tuple(data["batches"]),
                "recipe": Recipe.from_dict(data["recipe"]),
            }
        )

    def _measure(self, task: Task, batch: int) -> dict[str, LatencyRow]:
        started = time.perf_counter()
        *_, last = run(task, self.recipe, seed=self.seed)
        x = task.train.take(batch).inputs
        if len(x) < batch:
            raise SparsityError(f"{self.model} has {len(x)} training samples; ask for fewer")
        found = before_after(
            last.model,
            last.pruning.masks,
            x,
            threads=self.threads,
            fold=self.fold,
            others=self.others,
        )
        seconds = time.perf_counter() - started
        rows = {}
        for name in (WHOLE, *self.layers):
            row = self.unmeasured(LatencyPoint(name, batch, ""), "ok", "")
            rows[name] = dataclasses.replace(row, seconds=seconds, **found[name])
            if reason := last.pruning.skipped.get(name):
                rows[name] = dataclasses.replace(rows[name], message=f"stays dense: {reason}")
        return rows


_MEASURED = [field.name for field in dataclasses.fields(LatencyRow) if "None" in str(field.type)]


def recipe_label(recipe: Recipe) -> str:
    """Scorer, structure and sparsity."""
    scorer, structure = SCORERS.label(recipe.scorer), STRUCTURES.label(recipe.structure)
    return f"{scorer} {structure} at {100 * recipe.sparsity:g} %"


def plan_latency(
    task: Task,
    recipe: Recipe,
    *,
    batches: Sequence[int] = (1, 64),
    threads: int = 1,
    fold: bool = True,
    others: bool = False,
    seed: int = 0,
) -> LatencyPlan:
    """A plan for this machine; training is left out of the recipe, for it changes no time."""
    if not batches or min(*batches, threads, 1) < 1:
        raise SparsityError("batches and threads need 1 or more")
    return LatencyPlan(
        machine=cpu_label(),
        versions=kernel_versions(),
        model=task.name,
        model_digest=task.model_digest,
        layers=tuple(prunable(task.model)),
        recipe=dataclasses.replace(recipe, training=None),
        batches=tuple(sorted(set(batches))),
        threads=threads,
        fold=fold,
        others=others,
        seed=seed,
    )
