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
from playwright.sync_api import BrowserContext, Page, ViewportSize, expect, sync_playwright

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
_WIDE: ViewportSize = {"width": 1440, "height": 1200}
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
def window() -> Iterator[BrowserContext]:
    """A window of the system's Chromium; without one these tests are skipped.

    It keeps what it has read and compiled of the app's scripts. Where things move while a page is
    drawn, as they do unless one asks for less, a page takes twice as long.
    """
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        assert os.environ.get("SPARSITY_BROWSER") != "required", "CI needs Chromium, none found"
        pytest.skip("no Chromium found; on Debian: apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        context = browser.new_context(viewport=_WIDE, reduced_motion="reduce")
        context.set_default_timeout(WAIT)
        yield context
        browser.close()


@pytest.fixture(scope="session")
def tab(window: BrowserContext) -> Page:
    """The one tab of all tests.

    To open a page of the app in it takes the browser 2.0 s of processor, in a new tab, which is a
    new process, 3.7.
    """
    return window.new_page()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """The tab, left as if it were new; at the end no traceback may stand on it."""
    yield tab
    tracebacks = tab.locator('[data-testid="stException"]').count()
    tab.evaluate("localStorage.clear(), sessionStorage.clear()")
    tab.context.clear_cookies()
    tab.set_viewport_size(_WIDE)
    tab.emulate_media(color_scheme="light")
    assert tracebacks == 0


def assert_files_come(page: Page, folder: Path, table: bytes) -> None:
    """The open export row of a chart gives its pictures, and a table that begins so."""
    for kind, begin in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", table)):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
        file = folder / download.value.suggested_filename
        download.value.save_as(file)
        assert file.suffix == f".{kind.lower()}"
        assert file.read_bytes().startswith(begin)


def assert_narrow(page: Page) -> None:
    """Nothing that is seen goes beyond the right edge, and nothing scrolls sideways.

    What scrolls by itself may be wider, a frame cuts its field, and a tooltip is not on the page.
    """
    settle(page)
    page.wait_for_timeout(1000)
    wide = """[...document.querySelectorAll('[data-testid="stMainBlockContainer"] *')]
        .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1
            && !e.closest('[data-testid="stDataFrame"], pre, input, '
                + '[data-testid="stTooltipContent"]'))
        .map(e => e.outerHTML.slice(0, 120))"""
    for _ in range(60):  # on a busy machine a chart has the width of an earlier page for a while
        if not page.evaluate(wide):
            break
        page.wait_for_timeout(500)
    assert page.evaluate(wide) == []
    assert page.get_by_test_id("stMain").evaluate("e => e.scrollWidth - e.clientWidth") <= 1
    assert page.get_by_test_id("stException").count() == 0


def settle(page: Page) -> None:
    """Wait until the server has drawn the page and nothing is under way."""
    page.wait_for_selector('[data-testid="stAppViewContainer"] h1')
    page.wait_for_function(
        '!document.querySelector(\'[data-testid="stApp"][data-test-script-state="running"]\')'
    )
    page.wait_for_timeout(300)
