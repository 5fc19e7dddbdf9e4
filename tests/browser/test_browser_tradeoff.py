"""Whole-model curves in a real browser: run, watch, cancel, switch the axis, take along."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import App, assert_files_come, settle

LINK = "tradeoff?model=digits-mlp&curve-levels=50&curve-levels=90&curve-random=true&curve-epochs=0"
SLOW = "tradeoff?model=digits-resnet&curve-epochs=200&curve-recalibrated=false"
CHART = '[data-testid="stVegaLiteChart"] :is(canvas, svg.marks)'


def open_page(page: Page, app: App, link: str = LINK) -> None:
    page.goto(f"{app.url}/{link}")
    settle(page)


@pytest.fixture(scope="module")
def curved(app: App, tab: Page) -> App:
    """The server with a small comparison stored."""
    open_page(tab, app)
    tab.get_by_role("button", name=re.compile("Run 4 new points")).click()
    expect(tab.get_by_text("All 4 points are stored")).to_be_visible(timeout=120_000)
    return app


def test_what_is_stored_is_drawn_at_once_and_can_be_taken_along(
    curved: App, page: Page, tmp_path: Path
) -> None:
    open_page(page, curved)
    expect(page.locator(CHART)).to_be_visible()
    expect(page.get_by_role("button", name="All 4 points are stored")).to_be_disabled()
    expect(page.get_by_text("Multiply-adds are a count, not a speed")).to_be_visible()
    page.get_by_role("button", name=re.compile("Export")).click()
    assert_files_come(page, tmp_path, table=b"model")


def test_the_axis_is_switched_and_is_in_the_link(curved: App, page: Page) -> None:
    open_page(page, curved)
    before = page.locator(CHART).screenshot()
    page.get_by_test_id("stButtonGroup").get_by_text("Compression", exact=True).click()
    page.wait_for_url(re.compile("curve-axis=Compression"))
    settle(page)
    page.wait_for_timeout(1000)
    assert page.locator(CHART).screenshot() != before
    page.reload()
    settle(page)
    chosen = page.get_by_role("radio", name="Compression").and_(
        page.locator('[aria-checked="true"]')
    )
    expect(chosen).to_have_text("Compression")


def test_a_choice_goes_into_the_link_and_comes_back_from_it(app: App, page: Page) -> None:
    open_page(page, app, "tradeoff?model=digits-mlp")
    page.get_by_text("Choose what to compare").click()
    page.get_by_text("All combinations", exact=True).click()
    page.wait_for_url(re.compile("curve-crossed=true"))
    page.reload()
    settle(page)
    page.get_by_text("Choose what to compare").click()
    expect(page.get_by_role("checkbox", name=re.compile("All combinations"))).to_be_checked()


def test_a_long_comparison_is_stopped_and_the_rest_is_offered(app: App, page: Page) -> None:
    open_page(page, app, SLOW)
    page.get_by_role("button", name=re.compile("Run 12 new points")).click()
    cancel = page.get_by_role("button", name="Cancel")
    expect(cancel).to_be_visible()
    expect(page.get_by_text(re.compile(r"running: [1-9]\d* of 12 points"))).to_be_visible()
    cancel.click()
    expect(page.get_by_text(re.compile("cancelled: "))).to_be_visible()
    expect(page.get_by_role("button", name=re.compile(r"Run \d+ new points"))).to_be_enabled()
