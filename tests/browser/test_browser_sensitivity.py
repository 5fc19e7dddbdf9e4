"""A sweep in a real browser: run, watch, reload, click, take along, stop, come back."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from sparsity_core.store import Store
from tests.browser.conftest import App, assert_files_come, settle, start_app, stop_app

SMALL = "sensitivity?model=digits-mlp"
HELD = "sensitivity?model=held"
CHART = '[data-testid="stVegaLiteChart"] svg.marks'
MANUAL = 'textarea[aria-label="Sparsity of each layer (%)"]'


def open_sweep(page: Page, app: App, link: str = SMALL) -> None:
    page.goto(f"{app.url}/{link}")
    settle(page)


def click_mark(page: Page, chart: Locator, kind: str, label: str) -> None:
    """Click the last mark of a chart of that kind whose spoken text holds the label."""
    mark = chart.locator(f'[aria-roledescription="{kind}"][aria-label*="{label}"]').last
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def start(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^play_arrow Run|Run .* new points")).click()


@pytest.fixture(scope="module")
def swept(app: App, tab: Page) -> App:
    """The server with the usual sweep of the smallest model stored."""
    open_sweep(tab, app)
    start(tab)
    expect(tab.get_by_text("All 36 points are stored")).to_be_visible(timeout=120_000)
    return app


@pytest.fixture(scope="module")
def held(app: App) -> Iterator[App]:
    """A second server on the same store, where sweeps of HELD stop after 8 points."""
    running = start_app(app.store, HELD_AFTER="8", EXECUTIONS=str(app.store / "log"))
    yield running
    stop_app(running)


def test_a_sweep_is_seen_by_a_second_tab_and_after_a_reload(
    held: App, page: Page, window: BrowserContext
) -> None:
    open_sweep(page, held, HELD)
    start(page)
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.locator(CHART).first).to_be_visible()  # points arrive while it runs
    expect(page.get_by_text(re.compile(r"running: \d+ of \d+ points"))).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    other = window.new_page()
    open_sweep(other, held, HELD)
    expect(other.get_by_text(re.compile(r"running: \d+ of \d+ points"))).to_be_visible()
    other.get_by_role("button", name="Cancel").click()
    expect(other.get_by_text(re.compile("cancelled: "))).to_be_visible()
    expect(page.get_by_text(re.compile("cancelled: "))).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Run .* new points"))).to_be_enabled()
    other.close()


def test_a_killed_server_loses_no_stored_point_and_the_rest_is_offered(
    app: App, held: App, page: Page
) -> None:
    open_sweep(page, held, HELD)
    start(page)
    expect(page.get_by_text(re.compile(r"running: [1-9]\d* of \d+ points"))).to_be_visible()
    os.kill(held.process.pid, signal.SIGKILL)
    held.process.wait()
    (run,) = [run for run in Store(app.store).runs() if run.model == "held"]
    assert run.state == "interrupted"
    assert 0 < run.done < run.total
    open_sweep(page, app, HELD)
    left = f"Run {run.total - run.done} new points ({run.done} stored"
    expect(page.get_by_role("button", name=re.compile(re.escape(left)))).to_be_enabled()


def test_what_is_clicked_becomes_the_layer_of_the_whole_page(
    swept: App, page: Page, tmp_path: Path
) -> None:
    open_sweep(page, swept)
    curves, heat = page.locator(CHART).nth(0), page.locator(CHART).nth(1)
    heading = page.get_by_role("heading", name=re.compile("every scorer and structure"))
    expect(heading).to_contain_text("fc1.weight")
    click_mark(page, heat, "text mark", "90 %; layer: fc2.weight")
    expect(heading).to_contain_text("fc2.weight")
    click_mark(page, curves, "point", "layer: fc1.weight")
    expect(heading).to_contain_text("fc1.weight")
    expect(page.get_by_role("combobox", name="Layer", exact=True)).to_have_value("fc1.weight")
    table = page.locator('.st-key-answer [data-testid="data-grid-canvas"]')
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box
    page.mouse.click(box["x"] + 15, box["y"] + 35 * 3 + 17)  # the third row's tick
    expect(page.get_by_role("heading", name=re.compile("^fc3.weight, every"))).to_be_visible()
    assert "layer=fc3.weight" in page.url
    page.get_by_role("button", name="Export").first.click()
    assert_files_come(page, tmp_path, table=b"mod")


def test_the_recipe_goes_to_the_sidebar_and_with_the_link(
    swept: App, page: Page, window: BrowserContext
) -> None:
    open_sweep(page, swept)
    page.get_by_role("button", name="Use as recipe").click()
    text = page.locator(MANUAL)
    expect(text).to_have_value(re.compile(r"fc1\.weight: \d+\nfc2\.weight: \d+"))
    kept = text.input_value()
    page.wait_for_url(re.compile("manual="))
    other = window.new_page()
    other.goto(page.url)
    expect(other.locator(MANUAL)).to_have_value(kept)
    other.get_by_role("link", name="Model").click()
    settle(other)
    expect(other.locator(MANUAL)).to_have_value(kept)
    other.close()
