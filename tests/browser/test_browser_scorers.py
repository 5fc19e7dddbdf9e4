"""Scorers in a real browser: they arrive by themselves, a click takes two, a trial survives."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import App, settle
from tests.browser.test_browser_masks import CHART

LINK = "scorers?model=digits-mlp&layer=fc3.weight&scorers=magnitude&scorers=taylor&scorers=wanda"


def open_page(page: Page, app: App, link: str = LINK) -> None:
    page.goto(f"{app.url}/{link}")
    settle(page)
    expect(page.get_by_text("Click a cell to take its row as A")).to_be_visible()


def test_scorers_arrive_without_a_click_and_a_cell_takes_two(app: App, page: Page) -> None:
    open_page(page, app, f"{LINK}&scorer-a=magnitude&scorer-b=taylor")
    expect(page.get_by_role("heading", name="B: taylor")).to_be_visible()
    expect(page.get_by_text(re.compile("of 3 scored"))).to_have_count(0)
    matrix = page.locator(CHART).nth(4)
    matrix.scroll_into_view_if_needed()
    box = matrix.bounding_box()
    assert box
    # The lowest right cell but one: row taylor or wanda, column wanda.
    page.mouse.click(box["x"] + 0.93 * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.get_by_role("heading", name="B: wanda")).to_be_visible()
    page.wait_for_url(re.compile("scorer-b=wanda"))


def test_one_click_measures_and_a_reload_finds_it(app: App, page: Page) -> None:
    open_page(page, app, f"{LINK}&sparsity=90&scorers-shuffled=false")
    page.get_by_role("button", name=re.compile("new points")).click()
    expect(page.get_by_role("button", name=re.compile("points are stored"))).to_be_visible()
    expect(page.get_by_text("lowest to highest of 5 random seeds")).to_be_visible()
    page.reload()
    settle(page)
    expect(page.get_by_role("button", name=re.compile("points are stored"))).to_be_visible()
    expect(page.get_by_text("lowest to highest of 5 random seeds")).to_be_visible()


def test_entries_are_read_beside_the_choices(app: App, page: Page) -> None:
    open_page(page, app)
    page.get_by_role("button", name="What these are").first.click()
    expect(page.get_by_text("Uniform noise from the probe's seed")).to_be_visible()
    page.get_by_role("tab", name="Allocations").click()
    expect(page.get_by_text("Every layer equally sparse.")).to_be_visible()
