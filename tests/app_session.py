"""The app without a browser: its script run by Streamlit's AppTest, with a store of its own."""

import time
from collections.abc import Iterable, Iterator
from functools import cache as once
from pathlib import Path
from typing import Any

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from app import cache
from sparsity_core.executors import Group, InProcess, Stopped
from sparsity_core.plans import Plan

MAIN = Path(__file__).parent.parent / "app" / "main.py"
# Each AppTest looks for components in all installed packages, 0.3 s: they stay as they are.
manifest_scanner.scan_component_manifests = once(manifest_scanner.scan_component_manifests)


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty store; jobs run in a thread of this process, which is quicker to start."""
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path))
    monkeypatch.setattr(cache, "WorkerProcesses", lambda *_: InProcess())
    # On a busy machine a model takes longer to load than a page waits before it says so.
    monkeypatch.setattr(cache, "PATIENCE", 60.0)
    cache.store.clear()
    cache.queue.clear()
    yield tmp_path
    for job in cache.queue().jobs() if (tmp_path / "results.sqlite").is_file() else []:
        job.cancel()
        job.wait(30)
    cache.store.clear()
    cache.queue.clear()


class Held(InProcess):
    """Measures some points and then waits to be stopped: its job is certain to be under way."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.points = points

    def run(self, plan: Plan, groups: Iterable[Group], stopped: Stopped) -> Iterator[Any]:
        """The first rows."""
        rows = super().run(plan, groups, stopped)
        for _ in range(self.points):
            yield next(rows)
        while not stopped():
            time.sleep(0.01)


def open_page(page: str, **link: str) -> AppTest:
    """A page as a link opens it; `link` is what stands behind the question mark."""
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for name, value in link.items():
        app.query_params[name] = value
    return app.switch_page(f"../pages/{page}.py").run()


def texts(app: AppTest) -> str:
    """Everything that is written on the page, for looking things up."""
    kinds = ("title", "header", "subheader", "caption", "markdown", "info", "warning", "error")
    return "\n".join(str(element.value) for kind in kinds for element in app.get(kind))


def wait_for_jobs(seconds: float = 60) -> None:
    """Until every job of this process has ended."""
    for job in cache.queue().jobs():
        assert job.wait(seconds)
