"""Which kernels to time against each other, and where: points, each one kernel in one setting."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby, product
from typing import Any, ClassVar

from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.kernels.bench import CONVOLUTIONS, MATRIX, RIVALS, Race, measure, unmeasured
from sparsity_core.kernels.peaks import cpu_label, kernel_versions
from sparsity_core.kernels.row import KernelRow
from sparsity_core.kernels.workload import (
    CONVOLUTION_RIVALS,
    Workload,
    layer_workload,
    random_workload,
)
from sparsity_core.task import Task
from sparsity_core.weights import check_sparsity

Shape = tuple[int, int]


@dataclass(frozen=True)
class KernelPoint:
    """One kernel in one setting."""

    shape: Shape  # (outputs, weights of an output)
    race: Race  # with this kernel alone
    id: str

    @property
    def kernel(self) -> str:
        """Its name."""
        return self.race.kernels[0]


@dataclass(frozen=True)
class KernelPlan:
    """What to time, on which machine; made by `plan_kernels`.

    A time belongs to its machine and versions, so they are part of every point.
    """

    kind: ClassVar[str] = "kernels"
    device: ClassVar[str] = "cpu"
    machine: str
    versions: str
    model: str  # empty: random weights of the shapes
    model_digest: str
    layer: str
    shapes: tuple[Shape, ...]  # of matrices (outputs, inputs); of a layer its own one
    sparsities: tuple[float, ...]
    batches: tuple[int, ...]
    caches: tuple[str, ...]
    kernels: tuple[str, ...]
    threads: int = 1
    repeats: int = 30
    seed: int = 0

    @property
    def digest(self) -> str:
        """A name that equal plans share."""
        return digest_of(self.to_dict())

    @property
    def title(self) -> str:
        """One line for lists of runs."""
        shapes = ", ".join(f"{rows} x {cols}" for rows, cols in self.shapes)
        what = f"{self.model}: {self.layer} ({shapes})" if self.model else shapes
        return f"{what}: {len(self.kernels)} kernels, batch {', '.join(map(str, self.batches))}"

    def points(self) -> list[KernelPoint]:
        """All points, setting by setting."""
        where = digest_of([self.kind, self.machine, self.versions, self.model_digest, self.layer])
        settings = product(self.shapes, self.sparsities, self.batches, self.caches, self.kernels)
        found = []
        for shape, sparsity, batch, cache, kernel in settings:
            fixed = (self.threads, self.repeats, self.seed)
            race = Race(sparsity, batch, cache, (kernel,), *fixed)
            name = digest_of({"where": where, "shape": shape, "race": asdict(race)})
            found.append(KernelPoint(shape, race, name))
        return found

    def groups(self, points: Sequence[KernelPoint]) -> list[list[KernelPoint]]:
        """The kernels of one setting together: they are timed in turns."""
        return [list(group) for _, group in groupby(points, _setting)]

    def check(self, task: Task | None) -> None:
        """Raise SparsityError when machine, versions or model are not the planned ones."""
        for what, planned, here in (
            ("machine", self.machine, cpu_label()),
            ("versions", self.versions, kernel_versions()),
        ):
            if planned != here:
                raise SparsityError(
                    f"this was planned for another {what} ({planned}; here {here}): a time cannot "
                    "be completed elsewhere; plan again"
                )
        if task is not None and self.model and task.model_digest != self.model_digest:
            raise SparsityError(f"{self.model} has changed since the plan was made; plan again")

    def run(self, task: Task | None, points: Sequence[KernelPoint]) -> Iterator[KernelRow]:
        """A row for each point, setting by setting; trouble is a row's status."""
        for (shape, _), group in groupby(points, _setting):
            asked = {point.kernel: point for point in group}
            race = dataclasses.replace(next(iter(asked.values())).race, kernels=tuple(asked))
            try:
                rows = measure(race, self.workload(task, shape))
            except Exception as error:  # noqa: BLE001 - a failed point is a row, whatever failed
                message = str(error) if isinstance(error, SparsityError) else repr(error)
                yield from (self.unmeasured(point, "failed", message) for point in asked.values())
                continue
            found = {row.kernel: row for row in rows}
            yield from (self._named(found[kernel], point) for kernel, point in asked.items())

    def unmeasured(self, point: KernelPoint, status: str, message: str) -> KernelRow:
        """A row without numbers."""
        row = unmeasured(point.race, _shaped(*point.shape), point.kernel, status, message)
        return self._named(row, point)

    def workload(self, task: Task | None, shape: Shape) -> Workload:
        """The layer that is timed."""
        if task is None or not self.model:
            return random_workload(*shape, self.seed)
        return _layer(task, self.layer)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data; `setting` is what a worker loads its model for."""
        setting = {"model": self.model, "model_digest": self.model_digest, "on": self.machine}
        lists = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        shapes = [list(shape) for shape in self.shapes]
        return {"kind": self.kind, "setting": setting} | lists | {"shapes": shapes}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "KernelPlan":
        """The plan from plain data."""
        known = {field.name for field in dataclasses.fields(cls)}
        lists = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known}
        return cls(**lists | {"shapes": tuple((rows, cols) for rows, cols in data["shapes"])})

    def _named(self, row: KernelRow, point: KernelPoint) -> KernelRow:
        return dataclasses.replace(row, model=self.model, layer=self.layer, point_id=point.id)


def plan_kernels(
    task: Task | None = None,
    layer: str = "",
    *,
    shapes: Sequence[Shape] = ((768, 3072),),
    sparsities: Sequence[float] = (0.8, 0.9, 0.95, 0.99),
    batches: Sequence[int] = (1, 8, 64, 256),
    caches: Sequence[str] = ("hot",),
    kernels: Sequence[str] = ("all",),
    threads: int = 1,
    repeats: int = 30,
    seed: int = 0,
) -> KernelPlan:
    """A plan with every number checked, for this machine: a layer of a task, or Linear shapes.

    The dense rivals are always among the kernels. Raises SparsityError for an empty selection, bad
    numbers, unknown kernels, or a layer that no kernel can run.
    """
    chosen = {"shapes": shapes, "sparsities": sparsities, "batches": batches, "caches": caches}
    for what, values in (chosen | {"kernels": kernels}).items():
        if not len(values):
            raise SparsityError(f"no {what} chosen; choose at least one")
    if task is not None:
        work = _layer(task, layer)
        shapes = ((work.rows, work.cols),)
    matrix = task is None or work.weight.dim() == 2
    known, rivals = (MATRIX, RIVALS) if matrix else (CONVOLUTIONS, CONVOLUTION_RIVALS)
    for kernel in kernels:
        if kernel != "all" and kernel not in known:
            raise unknown("kernel for this layer", kernel, ("all", *known))
    if min(min(shape) for shape in shapes) < 1:
        raise SparsityError("shapes need 1 output and 1 input or more")
    for batch, cache in product(batches, caches):
        Race(0.5, batch, cache, (), threads, repeats, seed)
    return KernelPlan(
        machine=cpu_label(),
        versions=kernel_versions(),
        model=task.name if task else "",
        model_digest=task.model_digest if task else "",
        layer=layer if task else "",
        shapes=tuple(dict.fromkeys((int(rows), int(cols)) for rows, cols in shapes)),
        sparsities=tuple(sorted({check_sparsity(s) for s in sparsities})),
        batches=tuple(sorted(set(batches))),
        caches=tuple(dict.fromkeys(caches)),
        kernels=known if "all" in kernels else tuple(dict.fromkeys((*rivals, *kernels))),
        threads=threads,
        repeats=repeats,
        seed=seed,
    )


@lru_cache(maxsize=2)
def _layer(task: Task, layer: str) -> Workload:
    return layer_workload(task.model, layer, task.train.take(1).inputs)


@lru_cache(maxsize=2)
def _shaped(rows: int, cols: int) -> Workload:
    return random_workload(rows, cols)


def _setting(point: KernelPoint) -> tuple[Shape, tuple[Any, ...]]:
    race = point.race
    return point.shape, (race.sparsity, race.batch, race.cache)
