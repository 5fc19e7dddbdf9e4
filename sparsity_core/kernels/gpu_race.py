"""GPU kernels as the rows of a plan: the same columns as those of a CPU."""

import dataclasses
import math
import time

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.bench import Race
from sparsity_core.kernels.gpu_bench import CSR, DENSE, GpuPoint, GpuRow, measure_on_gpu
from sparsity_core.kernels.kernel import KERNELS, Kernel
from sparsity_core.kernels.peaks import kernel_versions
from sparsity_core.kernels.row import KernelRow
from sparsity_core.kernels.workload import Workload
from sparsity_core.machine import device_label
from sparsity_core.structures import STRUCTURES

GPU = tuple(kind for kind in KERNELS if KERNELS.make(kind).device == "cuda")
GPU_RIVALS = (DENSE, CSR)
_SHARED = {field.name for field in dataclasses.fields(GpuRow)} & {
    field.name for field in dataclasses.fields(KernelRow)
}


def measure_gpu_race(race: Race, work: Workload, dtype: str) -> list[KernelRow]:
    """Time the kernels of a race on the GPU beside dense and CSR of one type; a row for each.

    `work`: a Linear layer. What cannot run is a row with the reason; raises SparsityError
    where there is no GPU.
    """
    started = time.perf_counter()
    kernels: dict[str, Kernel] = {}
    refused: dict[str, str] = {}
    for kind in dict.fromkeys((*GPU_RIVALS, *race.kernels)):
        try:
            kernels[kind] = KERNELS.make(kind, dtype=dtype)
        except SparsityError as error:
            refused[kind] = str(error)
    shape = (work.rows, work.cols)
    point = GpuPoint(*shape, race.sparsity, race.batch, dtype, race.cache, race.repeats, race.seed)
    rows, failed = measure_on_gpu(point, kernels, work)
    seconds = time.perf_counter() - started
    found = [_row(race, shape, row, seconds) for row in rows]
    for kind, why in (refused | failed).items():
        found.append(unmeasured_on_gpu(race, shape, kind, dtype, "skipped", why))
    return [row for row in found if row.kernel in (*GPU_RIVALS, *race.kernels)]


def unmeasured_on_gpu(
    race: Race, shape: tuple[int, int], kind: str, dtype: str, status: str, message: str
) -> KernelRow:
    """A row without numbers."""
    blank = {field.name: None for field in dataclasses.fields(KernelRow)}
    given = {
        "kernel": kind,
        "structure": STRUCTURES.label(KERNELS.make(kind).pattern(race.sparsity)),
        "rows": shape[0],
        "cols": shape[1],
        "batch": race.batch,
        "dtype": dtype,
        "threads": 1,
        "sparsity": race.sparsity,
        "asked": race.sparsity,
        "cache": race.cache,
        "device": device_label("cuda"),
        "versions": kernel_versions(),
        "seed": race.seed,
        "status": status,
        "message": message,
        "seconds": 0.0,
        **dict.fromkeys(("limit", "energy_source", "model", "layer", "point_id"), ""),
    }
    return KernelRow(**blank | given)  # type: ignore[arg-type]


def _row(race: Race, shape: tuple[int, int], row: GpuRow, seconds: float) -> KernelRow:
    known = {name: value for name, value in dataclasses.asdict(row).items() if name in _SHARED}
    csr = None if math.isnan(row.speedup_vs_csr) else row.speedup_vs_csr
    blank = unmeasured_on_gpu(race, shape, row.kernel, row.dtype, "ok", "")
    known |= {"speedup_vs_csr": csr, "versions": kernel_versions(), "seconds": seconds}
    return dataclasses.replace(blank, **known)
