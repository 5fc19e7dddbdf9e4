"""Which process owns a run, and whether that process still lives."""

import json
import os
from pathlib import Path

import psutil


def this_process() -> str:
    """A name for this process that no later process with the same number has."""
    return json.dumps([os.getpid(), _start(os.getpid())])


def number_of(owner: str) -> int:
    """The number under which `ps` and `kill` know the process."""
    pid: int = json.loads(owner)[0]
    return pid


def lives(owner: str) -> bool:
    """Does the process that `this_process` named still live? Ended and not reaped is dead."""
    pid, started = json.loads(owner)
    try:
        if isinstance(started, str):
            return _start(pid) == started
        # As macOS tells it, and as stores of November 2026 and before hold it.
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return not dead and abs(process.create_time() - started) < 2
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return False


def _start(pid: int) -> str | float | None:
    """When a process started; None for one that has ended and waits to be reaped."""
    if not psutil.LINUX:
        return psutil.Process(pid).create_time()
    state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # Ticks of this boot: seconds since 1970 would move whenever the clock is set.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if state in "ZX" else f"{boot} {others[18]}"
