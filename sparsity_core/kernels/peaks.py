"""What this CPU can do at most, measured in a few seconds, and how it is called."""

import math
import platform
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numba
import torch

from sparsity_core.kernels.compiled import compiled
from sparsity_core.kernels.instructions import (
    add,
    bytes_at,
    fma,
    gather,
    load,
    move,
    permute,
    prefetch,
    store,
    zeros,
)
from sparsity_core.kernels.timing import on_threads
from sparsity_core.kernels.vector import cpu_features
from sparsity_core.machine import versions

_SETS = ("avx2", "avx512f", "avx512bf16", "avx512fp16", "amx-tile", "neon", "sve")
_FLAGS = {"avx512bf16": "avx512_bf16", "amx-tile": "amx_tile"}


@dataclass(frozen=True)
class Peaks:
    """The measured limits of one thread."""

    multiply_adds: float  # float32, a second
    read: tuple[tuple[int, float], ...]  # (bytes a cache holds, bytes a second), memory last
    gathers: float = math.inf  # float32 found by index in the nearest cache, a second
    permutes: float = math.inf  # float32 found by index in two registers, a second

    def bandwidth(self, footprint: int, cold: bool = False) -> float:
        """Bytes a second at which so many bytes can be read again and again; cold: from afar."""
        return self.read[self.level(footprint, cold)][1]

    def level(self, footprint: int, cold: bool = False) -> int:
        """The place in `read` of the nearest that holds so many bytes; cold: of memory."""
        last = len(self.read) - 1
        held = (i for i, (size, _) in enumerate(self.read) if footprint <= size and not cold)
        return next(held, last)


@cache
def peaks() -> Peaks:
    """Measured once a process, in under five seconds: the best of several runs, one thread."""
    sizes = [*(cache_bytes(level) for level in (1, 2, 3)), 1 << 28]
    with on_threads(1):
        rates = [(size, _best(_read_rate, size // 2)) for size in sizes]
        return Peaks(
            multiply_adds=_best(_multiply_add_rate, 200_000),
            read=tuple(rates),
            gathers=_best(_gather_rate, 50_000),
            permutes=_best(_permute_rate, 200_000),
        )


@cache
def cache_bytes(level: int) -> int:
    """The size of a cache of the first CPU; where the system does not tell, a usual one."""
    usual = {1: 32 << 10, 2: 1 << 20, 3: 32 << 20}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind, at = (folder / "type").read_text().strip(), (folder / "level").read_text()
            size = (folder / "size").read_text().strip()
        except OSError:
            continue
        if int(at) == level and kind != "Instruction":
            return int(size[:-1]) << {"K": 10, "M": 20, "G": 30}[size[-1]]
    return usual[level]


@cache
def cpu_label() -> str:
    """The CPU, its caches and vector sets: `AMD EPYC, L1 32 KiB, ..., avx2 avx512f`."""
    sizes = ", ".join(f"L{level} {cache_bytes(level) >> 10} KiB" for level in (1, 2, 3))
    sets = [_FLAGS.get(name, name) for name in _SETS if name in cpu_features()]
    return f"{_cpu_name()}, {sizes}, {' '.join(sets) or platform.machine()}"


def kernel_versions() -> str:
    """The versions that decide a time: this package, torch, Python, numba."""
    return f"{versions()}, numba {numba.__version__}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _best(rate, size: int) -> float:  # type: ignore[no-untyped-def]
    """The highest of the rates that are measured within a quarter of a second of this CPU."""
    rate(size)  # compiles, and touches the memory
    end = time.thread_time() + 0.25  # what others take of a busy machine is not counted
    rates = [rate(size)]
    while time.thread_time() < end:
        rates.append(rate(size))
    return float(max(rates))


def _read_rate(size: int) -> float:
    """The better of one stream and of eight at once, which memory serves up to 3 times as fast."""
    start, times, result = _memory(size).data_ptr(), max(1, (1 << 24) // size), torch.zeros(16)
    rates = []
    for distance, step in ((64, 512), (size // 8, 64)):
        lanes = tuple(start + i * distance for i in range(8))
        before = time.perf_counter()
        _read(lanes, size // 8 * (step // 64), step, times, result.data_ptr())
        rates.append(size * times / (time.perf_counter() - before))
    return max(rates)


@cache
def _memory(size: int) -> torch.Tensor:
    return torch.ones(size // 4)


def _multiply_add_rate(times: int) -> float:
    result = torch.zeros(16 * 12)
    addresses = tuple(result.data_ptr() + 64 * i for i in range(12))
    start = time.perf_counter()
    _multiply_add(addresses, times)
    return 16 * 12 * times / (time.perf_counter() - start)


def _gather_rate(times: int) -> float:
    return _finding_rate(_gather, times)


def _permute_rate(times: int) -> float:
    return _finding_rate(_permute, times)


def _finding_rate(function, times: int) -> float:  # type: ignore[no-untyped-def]
    """For four samples at once, which have the same places."""
    table, result = torch.zeros(4 * 512), torch.zeros(16 * 4)
    places = (torch.arange(256) * 37 % 32).to(torch.uint8)
    lanes = tuple(table.data_ptr() + 2048 * i for i in range(4))
    results = tuple(result.data_ptr() + 64 * i for i in range(4))
    start = time.perf_counter()
    function(lanes, places.data_ptr(), results, times)
    return 16 * 4 * times / (time.perf_counter() - start)


@compiled
def _gather(lanes, places, results, times):  # type: ignore[no-untyped-def]
    total = zeros(lanes)
    for i in range(times):
        total = add(gather(lanes, bytes_at(places + 16 * (i % 16))), total)
    store(results, total)


@compiled
def _permute(lanes, places, results, times):  # type: ignore[no-untyped-def]
    total = zeros(lanes)
    low, high = load(lanes), load(move(lanes, 64))
    for i in range(times):
        total = add(permute(low, bytes_at(places + 16 * (i % 16)), high), total)
    store(results, total)


@compiled
def _read(lanes, length, step, times, result):  # type: ignore[no-untyped-def]
    total = zeros(lanes)
    for _ in range(times):
        for at in range(0, length, step):
            here = move(lanes, at)
            prefetch(move(here, 1024))
            total = add(load(here), total)
    for i in range(8):
        store(result, add(total[i], load(result)))


@compiled
def _multiply_add(addresses, times):  # type: ignore[no-untyped-def]
    total = load(addresses)
    factor = load(addresses[0])
    for _ in range(times):
        total = fma(total, factor, total)
    store(addresses, total)
