"""How fast each GPU kernel is: against dense in the same type, and against what is possible."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.energy import Counter, per_call
from sparsity_core.kernels.gpu import DTYPES
from sparsity_core.kernels.gpu_timing import (
    GpuSample,
    GpuTimes,
    interleaved_on_gpu,
    sample_of,
)
from sparsity_core.kernels.kernel import KERNELS, Kernel, Packed
from sparsity_core.kernels.nvml import gpu_counter
from sparsity_core.kernels.timing import Call
from sparsity_core.kernels.workload import Workload, random_workload
from sparsity_core.machine import device_label, full_precision, versions
from sparsity_core.structures import STRUCTURES, Structure

DENSE, CSR, _AGAIN = "gpu-dense", "gpu-csr", "dense, again"
_WRONG = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}  # of the size of the outputs
_DEVICE = "cuda"
_ROOM = 4  # times the GPU's cache that copies fill when it shall be cold
_ENERGY, _BURST = 0.5, 10  # seconds a kernel, for the counter moves ten times in one; samples


@dataclass(frozen=True)
class GpuPoint:
    """One setting in which GPU kernels are timed against each other; plain data."""

    rows: int  # outputs
    cols: int  # inputs
    sparsity: float
    batch: int
    dtype: str = "bfloat16"
    cache: str = "hot"  # or cold: the weights come from the GPU's memory
    repeats: int = 20
    seed: int = 0


@dataclass(frozen=True)
class GpuRow:
    """One kernel in one setting on a GPU: the columns of the `kernels` command, and a few more.

    Times in microseconds a call, transposes and bias included.
    """

    kernel: str  # as it was named: a kind and its options
    structure: str
    rows: int
    cols: int
    batch: int
    dtype: str
    threads: int
    sparsity: float
    p20: float
    p50: float
    p80: float
    speedup_vs_dense: float
    speedup_vs_csr: float  # NaN where CSR was not timed
    bytes: int
    limit_fraction: float
    device: str
    versions: str
    cache: str
    limit: str
    graph: bool  # replayed from a CUDA graph
    noise: float
    multiply_adds: int
    moved: int  # bytes
    peak: float  # multiply-adds a second
    bandwidth: float  # bytes a second
    energy: float | None  # microjoules a call, hot; None where NVML does not tell
    energy_source: str


@dataclass(frozen=True)
class GpuPeaks:
    """The measured limits of one GPU."""

    multiply_adds: float  # of a type, a second
    bandwidth: float  # bytes read and written a second


@cache
def gpu_peaks(dtype: str) -> GpuPeaks:
    """A large matrix product of random numbers, and 2 GB read and written; without TF32.

    A number is added on the way: a plain copy of bytes reaches 2.8 TB/s on an H200, this 4.2.
    """
    side = 8192 if dtype != "float32" else 4096
    a, b = (torch.randn(side, side, device=_DEVICE, dtype=DTYPES[dtype]) for _ in range(2))
    source = torch.randn(1 << 28, device=_DEVICE)
    target = torch.empty_like(source)
    calls: dict[str, list[Call]] = {
        "product": [lambda: a @ b],
        "copy": [lambda: torch.add(source, 1.0, out=target)],
    }
    times = interleaved_on_gpu(calls, 10)
    return GpuPeaks(side**3 / times["product"].p20, 2 * source.nbytes / times["copy"].p20)


def measure_on_gpu(
    point: GpuPoint, kernels: Mapping[str, Kernel], work: Workload | None = None
) -> tuple[list[GpuRow], dict[str, str]]:
    """Rows of the kernels, by the names they are given, beside dense; and why others have none.

    Of a Linear layer `work` of the point's shape; random weights without it. Each is compared with
    dense in float64 before it is timed. TF32 is off.
    """
    if not torch.cuda.is_available():
        raise SparsityError("GPU kernels are measured on a CUDA GPU: torch finds none here")
    with full_precision(), torch.no_grad():
        return _measure(point, kernels, work or _random(point.rows, point.cols, point.seed))


def _measure(
    point: GpuPoint, kernels: Mapping[str, Kernel], work: Workload
) -> tuple[list[GpuRow], dict[str, str]]:
    x = work.inputs(point.batch, point.seed).to(_DEVICE, DTYPES[point.dtype])
    shape = (point.rows, point.cols)
    named: dict[str, Kernel] = {DENSE: KERNELS.make(DENSE, dtype=point.dtype), **kernels}
    first: dict[tuple[type[Kernel], Structure], tuple[Packed, Tensor]] = {}
    packed: dict[str, Packed] = {}
    failed: dict[str, str] = {}
    for name, kernel in named.items():
        structure = kernel.pattern(point.sparsity)
        if reason := kernel.why_not(structure, shape, "cuda", x.dtype) or structure.fits(shape):
            failed[name] = reason
            continue
        try:
            # Kernels of one class and pattern share a format: it is packed once.
            family = (type(kernel), structure)
            if family not in first:
                base = _packed(work, point.sparsity, kernel)
                first[family] = base, _expected(base, x)
            base, expected = first[family]
            one = base.run_by(kernel)  # a copy of its own on the GPU
            if reason := _wrong(one(x), expected, point.dtype):
                failed[name] = reason
            else:
                packed[name] = one
        except (SparsityError, RuntimeError) as error:
            failed[name] = str(error)
    if DENSE not in packed:
        raise SparsityError(f"dense cannot be timed: {failed[DENSE]}")
    calls = {name: _calls(one, x, point.cache) for name, one in packed.items()}
    times = interleaved_on_gpu({**calls, _AGAIN: calls[DENSE]}, point.repeats, point.seed)
    joules = _energies(calls)
    rows = [_row(point, work, name, one, times, joules) for name, one in packed.items()]
    return rows, failed


def _counter() -> Counter | None:
    return gpu_counter(str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))


def _energies(calls: Mapping[str, list[Call]]) -> dict[str, float | None]:
    """Microjoules of each call, one copy again and again; nothing where NVML does not tell.

    From graphs, as times are: a GPU that waits for Python draws power too.
    """
    counter = _counter()
    if counter is None:
        return {}

    def burst(sample: GpuSample) -> None:
        for _ in range(_BURST):
            sample.run()
        torch.cuda.synchronize()

    found = {}
    for name, (first, *_) in calls.items():
        sample = sample_of([first])
        used = per_call(lambda sample=sample: burst(sample), [counter], _ENERGY)  # type: ignore[misc]
        found[name] = None if used is None else used / (_BURST * sample.calls)
    return found


@lru_cache(maxsize=2)
def _random(rows: int, cols: int, seed: int) -> Workload:
    return random_workload(rows, cols, seed)


@lru_cache(maxsize=8)
def _packed(work: Workload, sparsity: float, kernel: Kernel) -> Packed:
    """The weights under a mask of the kernel's own pattern."""
    structure, shape = kernel.pattern(sparsity), tuple(work.weight.shape)
    mask = structure.expand(structure.choose(structure.units(work.scores), sparsity), shape)
    return kernel.pack(work.weight, mask, work.bias)


def _expected(packed: Packed, x: Tensor) -> Tensor:
    """The outputs in float64."""
    y = x.double() @ packed.dense().to(x.device, x.dtype).double().T
    return y if packed.bias is None else y + packed.bias.to(x.device, x.dtype).double()


def _wrong(y: Tensor, expected: Tensor, dtype: str) -> str | None:
    """How far outputs are from float64's, when that is too far."""
    off = float((y.double() - expected).norm() / expected.norm())
    return None if off <= _WRONG[dtype] else f"is wrong by {off:.2g} of the outputs' size"


def _calls(packed: Packed, x: Tensor, cache: str) -> list[Call]:
    """The call; for a cold cache as many copies as fill the GPU's several times."""
    copies = [packed]
    if cache == "cold":
        room = _ROOM * torch.cuda.get_device_properties(x.device).L2_cache_size
        more = math.ceil(room / packed.bytes)
        copies += [packed.run_by(packed.kernel) for _ in range(more)]
    return [lambda p=one: p(x) for one in copies]  # type: ignore[misc]


def _row(
    point: GpuPoint,
    work: Workload,
    name: str,
    packed: Packed,
    times: Mapping[str, GpuTimes],
    joules: Mapping[str, float | None],
) -> GpuRow:
    kernel, own, limits = packed.kernel, times[name], gpu_peaks(point.dtype)
    times_used = point.batch * work.positions
    multiplied = times_used * (point.rows * point.cols if name == DENSE else packed.kept)
    size = DTYPES[point.dtype].itemsize
    moved = packed.bytes + size * times_used * (point.rows + point.cols)
    bounds = {
        "bytes": moved / limits.bandwidth,
        "multiply-adds": multiplied / limits.multiply_adds,
    }
    limit = max(bounds, key=lambda kind: bounds[kind])
    return GpuRow(
        kernel=name,
        structure=STRUCTURES.label(kernel.pattern(point.sparsity)),
        rows=point.rows,
        cols=point.cols,
        batch=point.batch,
        dtype=point.dtype,
        threads=1,
        sparsity=1 - packed.kept / (point.rows * point.cols),
        p20=own.p20 * 1e6,
        p50=own.p50 * 1e6,
        p80=own.p80 * 1e6,
        speedup_vs_dense=times[DENSE].p50 / own.p50,
        speedup_vs_csr=times[CSR].p50 / own.p50 if CSR in times else math.nan,
        bytes=packed.bytes,
        limit_fraction=bounds[limit] / own.p50,
        device=device_label("cuda"),
        versions=versions(),
        graph=own.graph,
        limit=limit,
        cache=point.cache,
        noise=abs(math.log(times[DENSE].p50 / times[_AGAIN].p50)),
        multiply_adds=multiplied,
        moved=moved,
        peak=limits.multiply_adds,
        bandwidth=limits.bandwidth,
        energy=joules.get(name),
        energy_source="nvml" if joules.get(name) is not None else "",
    )
