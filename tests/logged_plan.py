"""What tests of jobs share: a plan of twelve points that leave a line each when they are run."""

import dataclasses
import threading
import time
from pathlib import Path

import pytest

from sparsity_core.executors import InProcess
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task

MODEL = "tests.count_executions:task"
LEVELS = [i / 48 for i in range(2, 48, 4)]  # 12 whole numbers of the 48 weights of fc1


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "log"
    monkeypatch.setenv("EXECUTIONS", str(path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    return path


def plan_of(levels=LEVELS, **options):
    return plan_sweep(load_task(MODEL), layers=["fc1"], sparsities=levels, **options)


def undisturbed(plan):
    return [comparable(row) for row in plan.run(load_task(MODEL), plan.points())]


def comparable(row):
    return dataclasses.replace(row, seconds=0, device="", versions="")


def wait_until(condition, seconds=180.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


class Gate(InProcess):
    """Measures once it is open: until then its job is certain to be under way."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()

    def run(self, plan, groups, stopped):
        """Rows as `InProcess` has them, none when it is stopped before."""
        while not self.open.wait(0.01):
            if stopped():
                return
        yield from super().run(plan, groups, stopped)
