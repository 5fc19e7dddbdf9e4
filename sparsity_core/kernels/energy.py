"""Energy of a call: read from the CPU's own counter where there is one, otherwise a model."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sparsity_core.kernels.timing import Call

Counter = Callable[[], int]  # microjoules used so far

_POWERCAP = Path("/sys/class/powercap")
_LEAST = 0.05  # seconds: the counters move once a millisecond

# Horowitz, "Computing's energy problem", ISSCC 2014: 45 nm, 0.9 V. Picojoules.
MULTIPLY_ADD = 3.7 + 0.9  # float32
BYTE = (20 / 8, 100 / 8, 100 / 8, 1300 / 8)  # from L1, L2, L3 (as 1 MB of SRAM), memory
ASSUMPTIONS = (
    "Model, not measured: 4.6 pJ a float32 multiply-add; 2.5 pJ a byte from L1, 12.5 from L2 and "
    "L3, 162 from memory (Horowitz, ISSCC 2014, 45 nm); nothing for instructions, waiting or leaks."
)
MEASURED = {
    "rapl": "Measured: RAPL, all of the CPU package, what else runs on it included.",
    "nvml": "Measured: NVML, all of the GPU, what it draws when idle included.",
}


def modelled(multiply_adds: float, moved: float, level: int) -> float:
    """Microjoules of a call that reads and writes `moved` bytes; level 0, 1, 2: L1 to L3."""
    return 1e-6 * (MULTIPLY_ADD * multiply_adds + BYTE[min(level, len(BYTE) - 1)] * moved)


def rapl_domains(folder: Path = _POWERCAP) -> list[Path]:
    """The counters of whole packages that this process may read."""
    found = []
    for counter in sorted(folder.glob("intel-rapl:*/energy_uj")):
        if counter.parent.name.count(":") != 1:  # a part of a package
            continue
        try:
            int(counter.read_text())
        except (OSError, ValueError):
            continue
        found.append(counter)
    return found


def rapl(call: Call, domains: list[Path], least: float = _LEAST) -> float | None:
    """`per_call` of the CPU packages."""
    return per_call(call, [partial(_read, domain) for domain in domains], least)


def per_call(call: Call, counters: Sequence[Counter], least: float) -> float | None:
    """Microjoules of a call, the mean over as many as take `least` seconds; None when a counter
    has begun anew or not moved meanwhile."""
    before, times = sum(read() for read in counters), 0
    end = time.perf_counter() + least
    while time.perf_counter() < end:
        call()
        times += 1
    used = sum(read() for read in counters) - before
    return used / times if used > 0 else None


def _read(counter: Path) -> int:
    return int(counter.read_text())
