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
from sparsity_core.kernels.gpu import DTYPES
from sparsity_core.kernels.gpu_race import GPU, GPU_RIVALS, measure_gpu_race, unmeasured_on_gpu
from sparsity_core.kernels.peaks import cpu_label, kernel_versions
from sparsity_core.kernels.row import KernelRow
from sparsity_core.kernels.workload import (
    CONVOLUTION_RIVALS,
    Workload,
    layer_workload,
    random_workload,
)
from sparsity_core.machine import device_label, resolve_device
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
    device: str = "cpu"
    dtype: str = "float32"  # of inputs and outputs; a CPU's are always float32

    @property
    def digest(self) -> str:
        """A name that equal plans share."""
        return digest_of(self.to_dict())

    @property
    def title(self) -> str:
        """One line for lists of runs."""
        shapes = ", ".join(f"{rows} x {cols}" for rows, cols in self.shapes)
        what = f"{self.model}: {self.layer} ({shapes})" if self.model else shapes
        where = "" if self.device == "cpu" else f", GPU, {self.dtype}"
        batches = ", ".join(map(str, self.batches))
        return f"{what}: {len(self.kernels)} kernels, batch {batches}{where}"

    def points(self) -> list[KernelPoint]:
        """All points, setting by setting."""
        on = [] if self.device == "cpu" else [self.device, self.dtype]
        given = [self.kind, self.machine, self.versions, self.model_digest, self.layer, *on]
        where = digest_of(given)
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
            ("machine", self.machine, _machine(self.device)),
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
                rows = self._measure(race, task, shape)
            except Exception as error:  # noqa: BLE001 - a failed point is a row, whatever failed
                message = str(error) if isinstance(error, SparsityError) else repr(error)
                yield from (self.unmeasured(point, "failed", message) for point in asked.values())
                continue
            found = {row.kernel: row for row in rows}
            yield from (self._named(found[kernel], point) for kernel, point in asked.items())

    def unmeasured(self, point: KernelPoint, status: str, message: str) -> KernelRow:
        """A row without numbers."""
        kind, why = point.kernel, (status, message)
        if self.device == "cuda":
            row = unmeasured_on_gpu(point.race, point.shape, kind, self.dtype, *why)
        else:
            row = unmeasured(point.race, _shaped(*point.shape), kind, *why)
        return self._named(row, point)

    def workload(self, task: Task | None, shape: Shape) -> Workload:
        """The layer that is timed."""
        if task is None or not self.model:
            return _shaped(*shape, self.seed)
        return _layer(task, self.layer)

    def saved_under(self) -> set[str]:
        """None: a timing takes seconds."""
        return set()

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data; `setting` is what a worker loads its model for."""
        setting = {"model": self.model, "model_digest": self.model_digest, "on": self.machine}
        lists = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        shapes = [list(shape) for shape in self.shapes]
        if self.device == "cpu":  # as plans were before there were others
            lists = {k: v for k, v in lists.items() if k not in ("device", "dtype")}
        return {"kind": self.kind, "setting": setting} | lists | {"shapes": shapes}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "KernelPlan":
        """The plan from plain data."""
        known = {field.name for field in dataclasses.fields(cls)}
        lists = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known}
        return cls(**lists | {"shapes": tuple((rows, cols) for rows, cols in data["shapes"])})

    def _measure(self, race: Race, task: Task | None, shape: Shape) -> list[KernelRow]:
        if self.device == "cuda":
            return measure_gpu_race(race, self.workload(task, shape), self.dtype)
        return measure(race, self.workload(task, shape))

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
    device: str = "cpu",
    dtype: str = "float32",
) -> KernelPlan:
    """A plan with every number checked, for this machine: a layer of a task, or Linear shapes.

    The dense rivals are always among the kernels. `device` cuda: the GPU's kernels, of matrices, in
    `dtype`. Raises SparsityError for an empty selection, bad numbers, unknown kernels, a layer that
    no kernel can run, or a GPU that is not there.
    """
    _check_device(device, dtype)
    chosen = {"shapes": shapes, "sparsities": sparsities, "batches": batches, "caches": caches}
    for what, values in (chosen | {"kernels": kernels}).items():
        if not len(values):
            raise SparsityError(f"no {what} chosen; choose at least one")
    if task is not None:
        work = _layer(task, layer)
        shapes = ((work.rows, work.cols),)
    matrix = task is None or work.weight.dim() == 2
    known: tuple[str, ...]
    rivals: tuple[str, ...]
    known, rivals = (MATRIX, RIVALS) if matrix else (CONVOLUTIONS, CONVOLUTION_RIVALS)
    if device == "cuda":
        if not matrix:
            raise SparsityError(
                f"{layer} is a convolution: GPU kernels multiply matrices; choose a linear layer"
            )
        known, rivals, threads = GPU, GPU_RIVALS, 1
    for kernel in kernels:
        if kernel != "all" and kernel not in known:
            raise unknown("kernel for this layer", kernel, ("all", *known))
    if min(min(shape) for shape in shapes) < 1:
        raise SparsityError("shapes need 1 output and 1 input or more")
    for batch, cache in product(batches, caches):
        Race(0.5, batch, cache, (), threads, repeats, seed)
    return KernelPlan(
        machine=_machine(device),
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
        device=device,
        dtype=dtype,
    )


def _machine(device: str) -> str:
    return cpu_label() if device == "cpu" else device_label(device)


def _check_device(device: str, dtype: str) -> None:
    if device not in ("cpu", "cuda"):
        raise SparsityError(f"unknown device {device!r}; choose cpu or cuda")
    if device == "cpu" and dtype != "float32":
        raise SparsityError(f"dtype {dtype}: a CPU's kernels take float32; choose device cuda")
    if device == "cuda":
        resolve_device(device)
        if dtype not in DTYPES:
            raise SparsityError(f"dtype {dtype!r}: choose one of {', '.join(DTYPES)}")


@lru_cache(maxsize=2)
def _layer(task: Task, layer: str) -> Workload:
    return layer_workload(task.model, layer, task.train.take(1).inputs)


@lru_cache(maxsize=2)
def _shaped(rows: int, cols: int, seed: int = 0) -> Workload:
    return random_workload(rows, cols, seed)


def _setting(point: KernelPoint) -> tuple[Shape, tuple[Any, ...]]:
    race = point.race
    return point.shape, (race.sparsity, race.batch, race.cache)
