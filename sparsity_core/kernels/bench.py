"""How fast each kernel is on this machine: against the best dense, and against what is possible."""

import dataclasses
import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels import energy
from sparsity_core.kernels.kernel import KERNELS, Packed
from sparsity_core.kernels.peaks import Peaks, cache_bytes, cpu_label, kernel_versions, peaks
from sparsity_core.kernels.power import power_state
from sparsity_core.kernels.row import KernelRow
from sparsity_core.kernels.timing import Call, Times, interleaved, on_threads
from sparsity_core.kernels.workload import MATRIX_RIVALS, Workload
from sparsity_core.structures import STRUCTURES, Structure
from sparsity_core.weights import check_sparsity

RIVALS = (*MATRIX_RIVALS, "csr")  # always timed beside the others
MATRIX, CONVOLUTIONS = (
    tuple(
        kind
        for kind in KERNELS
        if (KERNELS.make(kind).rank, KERNELS.make(kind).device) == (rank, "cpu")
    )
    for rank in (2, 4)
)
CACHES = ("hot", "cold")
_AGAIN = "dense, again"
_MOST = 1 << 28  # bytes of copies of one kernel: some machines report caches of 0.5 GB


@dataclass(frozen=True)
class Race:
    """One setting in which kernels are timed against each other; plain data."""

    sparsity: float
    batch: int
    cache: str = "hot"
    kernels: tuple[str, ...] = MATRIX
    threads: int = 1
    repeats: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        if min(self.batch, self.threads, self.repeats) < 1:
            raise SparsityError(f"{self}: batch, threads and repeats must be 1 or more")
        if self.cache not in CACHES:
            raise SparsityError(f"unknown cache {self.cache!r}; choose hot or cold")
        for kind in self.kernels:
            KERNELS.options_of(kind)  # raises for an unknown one


def measure(race: Race, work: Workload) -> list[KernelRow]:
    """Time the kernels of a race and ALWAYS the rivals, interleaved; a row for each.

    Each kernel has a mask of the pattern it is made for; one that cannot take the layer is a row
    with the reason.
    """
    started = time.perf_counter()
    with torch.no_grad(), on_threads(race.threads):
        packed, refused = _packed(race, work)
        x = work.inputs(race.batch, race.seed)
        calls = {name: _calls(one, x, race.cache) for name, one in packed.items()}
        dense = next(kind for kind in work.rivals if kind in packed)
        calls[_AGAIN] = calls[dense]
        times = interleaved(calls, race.repeats, race.seed, race.cache == "cold")
        joules = _energies(calls)
    best = min(times[kind].p50 for kind in work.rivals if kind in times)
    csr = times["csr"].p50 if "csr" in times else None
    noise = abs(math.log(times[dense].p50 / times[_AGAIN].p50))
    seconds, power = time.perf_counter() - started, power_state() or None
    rows = [unmeasured(race, work, kind, "skipped", why) for kind, why in refused.items()]
    for name, one in packed.items():
        row = dataclasses.replace(
            _row(race, work, name, one, times[name], peaks()),
            speedup_vs_dense=best / times[name].p50,
            speedup_vs_csr=None if csr is None else csr / times[name].p50,
            noise=noise,
            seconds=seconds,
            power=power,
        )
        if joules.get(name):
            row = dataclasses.replace(row, energy=joules[name], energy_source="rapl")
        rows.append(row)
    return rows


def unmeasured(race: Race, work: Workload, kind: str, status: str, message: str) -> KernelRow:
    """A row without numbers."""
    kernel = work.kernel(kind, race.threads)
    return KernelRow(
        kernel=kind,
        structure=STRUCTURES.label(kernel.pattern(race.sparsity)),
        rows=work.rows,
        cols=work.cols,
        batch=race.batch,
        dtype=str(kernel.stores).removeprefix("torch."),
        threads=race.threads,
        sparsity=race.sparsity,
        device=f"cpu: {cpu_label()}",
        versions=kernel_versions(),
        asked=race.sparsity,
        cache=race.cache,
        limit="",
        energy_source="",
        model="",
        layer="",
        seed=race.seed,
        status=status,
        message=message,
        seconds=0.0,
        point_id="",
        **dict.fromkeys(_MEASURED),
    )


_MEASURED = [field.name for field in dataclasses.fields(KernelRow) if "None" in str(field.type)]


def _packed(race: Race, work: Workload) -> tuple[dict[str, Packed], dict[str, str]]:
    """Kernels, each with the same weight under a mask of its own pattern; those that cannot."""
    shape = tuple(work.weight.shape)
    always = (*work.rivals, *(["csr"] if work.weight.dim() == 2 else []))
    masks: dict[Structure, Tensor] = {}
    packed, refused = {}, {}
    for name in dict.fromkeys((*always, *race.kernels)):
        kernel = work.kernel(name, race.threads)
        structure = kernel.pattern(race.sparsity)
        if reason := kernel.why_not(structure, shape) or structure.fits(shape):
            refused[name] = reason
            continue
        if structure not in masks:
            chosen = structure.choose(structure.units(work.scores), race.sparsity)
            masks[structure] = structure.expand(chosen, shape)
        try:
            packed[name] = kernel.pack(work.weight, masks[structure], work.bias)
        except SparsityError as error:
            refused[name] = str(error)
    return packed, {name: why for name, why in refused.items() if name in race.kernels}


def _calls(packed: Packed, x: Tensor, cache: str) -> list[Call]:
    """The call; for a cold cache as many copies as fill the largest cache four times."""
    copies = [packed]
    if cache == "cold":
        room = min(4 * cache_bytes(3), _MOST)
        needed = math.ceil(room / max(packed.bytes, 1 << 18))
        copies += [_copy(packed) for _ in range(max(needed - 1, 1))]
    return [lambda p=one: p(x) for one in copies]  # type: ignore[misc]


def _copy(packed: Packed) -> Packed:
    parts = {name: part.clone() for name, part in packed.parts.items()}
    return dataclasses.replace(packed, parts=parts).run_by(packed.kernel)


def _energies(calls: dict[str, list[Call]]) -> dict[str, float | None]:
    """Microjoules of each call where the CPU tells; nothing elsewhere."""
    domains = energy.rapl_domains()
    return {name: energy.rapl(copies[0], domains) for name, copies in calls.items() if domains}


def _row(
    race: Race, work: Workload, name: str, packed: Packed, times: Times, limits: Peaks
) -> KernelRow:
    """What is known of a kernel without the others."""
    products = race.batch * work.positions
    every = work.rows * work.cols
    multiply_adds = products * (every if name.startswith("dense") else packed.kept)
    values = race.batch * math.prod(work.sample) + products * work.rows
    moved = packed.bytes + 4 * values
    cold = race.cache == "cold"
    bandwidth, peak = limits.bandwidth(moved, cold), limits.multiply_adds * race.threads
    bounds = {"bytes": moved / bandwidth}
    if packed.kernel.multiplies == torch.float32:  # the peak of other types is not measured
        bounds["multiply-adds"] = multiply_adds / peak
    if packed.kernel.finds:
        rate = limits.gathers if packed.kernel.finds == "gather" else limits.permutes
        bounds[packed.kernel.finds] = products * packed.kept / rate / race.threads
    limit = max(bounds, key=lambda name: bounds[name])
    return dataclasses.replace(
        unmeasured(race, work, name, "ok", ""),
        sparsity=1 - packed.kept / every,
        p20=times.p20 * 1e6,
        p50=times.p50 * 1e6,
        p80=times.p80 * 1e6,
        bytes=packed.bytes,
        limit=limit,
        limit_fraction=bounds[limit] / times.p50,
        multiply_adds=multiply_adds,
        moved=moved,
        peak=peak,
        bandwidth=bandwidth,
        energy=energy.modelled(multiply_adds, moved, limits.level(moved, cold)),
        energy_source="model",
    )
