"""A module of ours in a process of its own, ended with all it started when it takes too long."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """What a process has printed, and how it went."""

    said: bytes
    code: int


def run_apart(
    module: str,
    argument: str,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    stderr: int | None = None,
) -> Ended:
    """Run `python -m module argument`; subprocess.TimeoutExpired when it is not done in time.

    What can be imported here can be imported there; `environment` goes on top.
    """
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-m", module, argument],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=os.environ | dict(environment or {}) | path,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Ended(said, process.returncode)
