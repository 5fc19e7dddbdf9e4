"""How fast each kernel is on this machine: against the best dense, and against what is possible."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.kernel import KERNELS, Kernel, Packed
from sparsity_core.kernels.peaks import Peaks, cache_bytes, cpu_label, kernel_versions, peaks
from sparsity_core.kernels.timing import Call, Times, interleaved, on_threads
from sparsity_core.machine import resolve_device
from sparsity_core.structures import STRUCTURES, Structure
from sparsity_core.weights import check_sparsity

DENSE = ("dense", "dense-transposed", "dense-onednn")  # float32: the best of them is the rival
ALWAYS = (*DENSE, "csr")
MATRIX = tuple(kind for kind in KERNELS if KERNELS.make(kind).rank == 2)
CACHES = ("hot", "cold")
_AGAIN = "dense, again"
_MOST = 1 << 28  # bytes of copies of one kernel: some machines report caches of 0.5 GB


@dataclass(frozen=True)
class KernelPoint:
    """One setting in which kernels are timed against each other; plain data."""

    rows: int  # outputs
    cols: int  # inputs
    sparsity: float
    batch: int
    cache: str = "hot"
    threads: int = 1
    kernels: tuple[str, ...] = MATRIX
    repeats: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        counts = (self.rows, self.cols, self.batch, self.threads, self.repeats)
        if min(counts) < 1:
            raise SparsityError(f"{self}: rows, cols, batch, threads, repeats must be 1 or more")
        if self.cache not in CACHES:
            raise SparsityError(f"unknown cache {self.cache!r}; choose hot or cold")


@dataclass(frozen=True)
class KernelPlan:
    """What to measure; `points` are measured one by one."""

    shapes: tuple[tuple[int, int], ...] = ((768, 3072),)  # (outputs, inputs)
    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95, 0.99)
    batches: tuple[int, ...] = (1, 8, 64, 256)
    caches: tuple[str, ...] = ("hot",)
    kernels: tuple[str, ...] = MATRIX
    threads: int = 1
    repeats: int = 30
    seed: int = 0

    def points(self) -> list[KernelPoint]:
        """Every setting, shape by shape."""
        common = (self.threads, self.kernels, self.repeats, self.seed)
        return [
            KernelPoint(rows, cols, sparsity, batch, cache, *common)
            for rows, cols in self.shapes
            for sparsity in self.sparsities
            for batch in self.batches
            for cache in self.caches
        ]


@dataclass(frozen=True)
class KernelRow:
    """One kernel in one setting; its fields are the columns of the command's file.

    Times in microseconds a call, transposes, bias and conversions included.
    """

    kernel: str
    structure: str
    rows: int
    cols: int
    batch: int
    dtype: str  # of the stored values
    threads: int
    sparsity: float  # of the mask, which may be near the one asked for only
    p20: float
    p50: float
    p80: float
    speedup_vs_dense: float  # over the quickest float32 dense of DENSE, timed beside it
    speedup_vs_csr: float
    bytes: int  # of the packed weight
    limit_fraction: float  # the least time that is possible, over p50
    device: str
    versions: str
    limit: str  # what bounds it: bytes or multiply-adds
    cache: str
    noise: float  # how far apart two timings of the same dense were: a share of the time


def measure(point: KernelPoint) -> list[KernelRow]:
    """Time the kernels of a point that can take its shape, and ALWAYS the rivals, interleaved.

    See `refusals` for those that cannot. Random weights; each kernel has a mask of the pattern it
    is made for.
    """
    with torch.no_grad(), on_threads(point.threads):
        packed = _packed(point)
        x = torch.randn(point.batch, point.cols, generator=_generator(point.seed + 1))
        calls = {name: _calls(one, x, point.cache) for name, one in packed.items()}
        calls[_AGAIN] = calls["dense"]
        times = interleaved(calls, point.repeats, point.seed, point.cache == "cold")
    best = min(times[kind].p50 for kind in DENSE if kind in times)
    noise = abs(math.log(times["dense"].p50 / times[_AGAIN].p50))
    limits = peaks()
    return [
        _row(point, name, one, times[name], best, times["csr"].p50, noise, limits)
        for name, one in packed.items()
    ]


def refusals(point: KernelPoint) -> dict[str, str]:
    """The kernels that cannot take a point, and why."""
    found = {}
    for name in point.kernels:
        kernel = KERNELS.make(name)
        structure = kernel.pattern(point.sparsity)
        shape = (point.rows, point.cols)
        reason = kernel.why_not(structure, shape) or structure.fits(shape)
        if reason:
            found[name] = reason
    return found


def break_even(rows: Iterable[KernelRow]) -> dict[tuple[str, int, str], float | None]:
    """(kernel, batch, cache) -> the sparsity from which it stays ahead of dense.

    Interpolated between the measured sparsities in the logarithm of the speedup. The lowest
    measured one where the kernel is ahead throughout; None where it is behind at the highest.
    """
    lines: dict[tuple[str, int, str], list[KernelRow]] = {}
    for row in rows:
        lines.setdefault((row.kernel, row.batch, row.cache), []).append(row)
    return {key: _crossing(sorted(line, key=lambda r: r.sparsity)) for key, line in lines.items()}


def _crossing(line: Sequence[KernelRow]) -> float | None:
    if line[-1].speedup_vs_dense < 1:
        return None
    for below, above in reversed(list(pairwise(line))):
        if below.speedup_vs_dense < 1:
            low, high = math.log(below.speedup_vs_dense), math.log(above.speedup_vs_dense)
            return below.sparsity + (above.sparsity - below.sparsity) * low / (low - high)
    return line[0].sparsity


def _packed(point: KernelPoint) -> dict[str, Packed]:
    """Kernels by label, each with the same weight under a mask of its own pattern."""
    shape, refused = (point.rows, point.cols), refusals(point)
    weight = torch.randn(shape, generator=_generator(point.seed)) / math.sqrt(point.cols)
    bias = torch.randn(point.rows, generator=_generator(point.seed + 2))
    names = dict.fromkeys((*ALWAYS, *point.kernels))
    scores = torch.rand(shape, generator=_generator(point.seed + 3))
    masks: dict[Structure, Tensor] = {}
    packed = {}
    for name in names:
        kernel = _threaded(KERNELS.make(name), point.threads)
        structure = kernel.pattern(point.sparsity)
        if name in refused or kernel.why_not(structure, shape):
            continue
        if structure not in masks:
            chosen = structure.choose(structure.units(scores), point.sparsity)
            masks[structure] = structure.expand(chosen, shape)
        packed[name] = kernel.pack(weight, masks[structure], bias)
    return packed


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _threaded(kernel: Kernel, threads: int) -> Kernel:
    """With its own threads, where the kernel is one of ours; torch's have torch's."""
    if not hasattr(kernel, "threads"):
        return kernel
    return dataclasses.replace(kernel, threads=threads)  # type: ignore[type-var]


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
    product = packed.kernel.bind(parts, packed.shape, packed.bias)
    return dataclasses.replace(packed, parts=parts, product=product)


def _row(
    point: KernelPoint,
    name: str,
    packed: Packed,
    times: Times,
    dense: float,
    csr: float,
    noise: float,
    limits: Peaks,
) -> KernelRow:
    structure = packed.kernel.pattern(point.sparsity)
    multiplied = point.rows * point.cols if name.startswith("dense") else packed.kept
    moved = packed.bytes + 4 * point.batch * (point.rows + point.cols)
    bounds = {"bytes": moved / limits.bandwidth(moved, point.cache == "cold")}
    if packed.kernel.multiplies == torch.float32:  # the peak of other types is not measured
        rate = limits.multiply_adds * point.threads
        bounds["multiply-adds"] = multiplied * point.batch / rate
    limit = max(bounds, key=lambda name: bounds[name])
    return KernelRow(
        kernel=name,
        structure=STRUCTURES.label(structure),
        rows=point.rows,
        cols=point.cols,
        batch=point.batch,
        dtype=str(packed.kernel.stores).removeprefix("torch."),
        threads=point.threads,
        sparsity=1 - packed.kept / (point.rows * point.cols),
        p20=times.p20 * 1e6,
        p50=times.p50 * 1e6,
        p80=times.p80 * 1e6,
        speedup_vs_dense=dense / times.p50,
        speedup_vs_csr=csr / times.p50,
        bytes=packed.bytes,
        limit_fraction=bounds[limit] / times.p50,
        device=f"{resolve_device('cpu')}: {cpu_label()}",
        versions=kernel_versions(),
        limit=limit,
        cache=point.cache,
        noise=noise,
    )
