"""The app as a person has it: a server of its own, an empty store, and Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

WAIT = 60_000  # ms; the first page after a start takes its time
expect.set_options(timeout=WAIT)

ROOT = Path(__file__).parent.parent.parent
# The one without windows, menus and extensions first: it draws the same for half of the time.
_NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


@dataclass
class App:
    """A running server and the store it writes."""

    url: str
    store: Path
    process: "subprocess.Popen[bytes]"


def start_app(store: Path, **environment: str) -> App:
    """A server on a free port; returns when it answers.

    Besides the usual models it has `held`, see `tests.count_executions`.
    """
    package = store / "held-1.dist-info"
    package.mkdir(exist_ok=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: held\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[sparsity_core.models]\nheld = tests.count_executions:CATALOG\n"
    )
    paths = [str(store), str(ROOT), os.environ.get("PYTHONPATH", "")]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)],
        cwd=ROOT,
        env=os.environ
        | {
            "SPARSITY_STORE": str(store),
            "SPARSITY_WORKERS": "1",  # beside the server and Chromium there is no core for more
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    app = App(f"http://localhost:{port}", store, process)
    for _ in range(120):
        try:
            with urlopen(f"{app.url}/_stcore/health", timeout=1):
                return app
        except OSError:
            assert process.poll() is None, "the server ended at once"
            time.sleep(0.5)
    stop_app(app)
    raise AssertionError("the server did not answer within a minute")


def stop_app(app: App) -> None:
    """End the server; its workers end with it."""
    app.process.terminate()
    try:
        app.process.wait(15)
    except subprocess.TimeoutExpired:
        app.process.kill()
        app.process.wait()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """One server for all browser tests, with a store that begins empty."""
    running = start_app(tmp_path_factory.mktemp("store"))
    yield running
    stop_app(running)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium; without one these tests are skipped."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        assert os.environ.get("SPARSITY_BROWSER") != "required", "CI needs Chromium, none found"
        pytest.skip("no Chromium found; on Debian: apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A tab of its own; at the end no traceback may stand on it."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1200})
    tab = context.new_page()
    tab.set_default_timeout(WAIT)
    yield tab
    assert tab.locator('[data-testid="stException"]').count() == 0
    context.close()


def assert_files_come(page: Page, folder: Path, table: bytes) -> None:
    """The open export row of a chart gives its pictures, and a table that begins so."""
    for kind, begin in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", table)):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
        file = folder / download.value.suggested_filename
        download.value.save_as(file)
        assert file.suffix == f".{kind.lower()}"
        assert file.read_bytes().startswith(begin)


def settle(page: Page) -> None:
    """Wait until the server has drawn the page and nothing is under way."""
    page.wait_for_selector('[data-testid="stAppViewContainer"] h1')
    page.wait_for_function(
        '!document.querySelector(\'[data-testid="stApp"][data-test-script-state="running"]\')'
    )
    page.wait_for_timeout(300)
