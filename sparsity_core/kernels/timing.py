"""Times of several calls against each other, on a machine that others use too."""

import contextlib
import gc
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

try:
    import resource
except ImportError:  # Windows does not tell when it took the CPU away
    resource = None  # type: ignore[assignment]

Call = Callable[[], object]
_SAMPLE = 200e-6  # seconds: a shorter sample is repeated within itself
_LONG = 5e-3  # seconds: such a call fills the caches itself, and is not run unmeasured before


@dataclass(frozen=True)
class Times:
    """Seconds a call took: quantiles over the repeats."""

    p20: float
    p50: float
    p80: float


def interleaved(
    calls: Mapping[str, Sequence[Call]], repeats: int, seed: int = 0, cold: bool = False
) -> dict[str, Times]:
    """Times of all calls, each once a round, the rounds in random orders.

    Hot: the call runs once unmeasured before each sample, so that its weights lie in the cache,
    and a sample holds as many calls as last 0.2 ms. Cold: a sample is one call, and each call
    comes as several copies of itself that take turns, so that its weights have left the cache.
    A sample during which the system took the CPU away counts its CPU time instead.
    """
    rounds = random.Random(seed)
    inner, long, turn = {}, {}, dict.fromkeys(calls, 0)
    for name, copies in calls.items():
        for copy in copies:
            copy()
        once = _seconds(copies[0], 1)
        if once < _LONG:
            once = min(once, *(_seconds(copies[0], 1) for _ in range(4)))
        long[name] = once >= _LONG
        inner[name] = 1 if cold else max(1, min(1000, math.ceil(_SAMPLE / max(once, 1e-9))))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    with _without_collector():
        for _ in range(repeats):
            for name in rounds.sample(list(calls), len(calls)):
                copies = calls[name]
                turn[name] = (turn[name] + 1) % len(copies)
                call = copies[turn[name]]
                if not cold and not long[name]:
                    call()
                samples[name].append(_seconds(call, inner[name]))
    return {name: Times(*quantiles(times)) for name, times in samples.items()}


@contextlib.contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """This thread on as many CPUs as threads, and torch with as many threads, for a while."""
    before = torch.get_num_threads()
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    torch.set_num_threads(threads)
    if cpus:
        os.sched_setaffinity(0, sorted(cpus)[-threads:])
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if cpus:
            os.sched_setaffinity(0, cpus)


def _seconds(call: Call, times: int) -> float:
    """Of one call, the mean over `times` in a row."""
    switches, cpu, wall = _switches(), time.thread_time(), time.perf_counter()
    for _ in range(times):
        call()
    wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
    taken_away = _switches() > switches and torch.get_num_threads() == 1
    return (cpu if taken_away else wall) / times


def _switches() -> int:
    if resource is None or not hasattr(resource, "RUSAGE_THREAD"):
        return 0
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def quantiles(times: list[float]) -> tuple[float, float, float]:
    """The 20th, 50th and 80th percentile."""
    p20, p50, p80 = torch.tensor(times, dtype=torch.float64).quantile(
        torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    )
    return float(p20), float(p50), float(p80)
