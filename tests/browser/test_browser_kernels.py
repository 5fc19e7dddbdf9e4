"""Kernels in a real browser: the finished example, its views, and the link that keeps them."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import App, settle

CHART = '[data-testid="stVegaLiteChart"] :is(canvas, svg.marks)'


def test_the_example_is_drawn_and_the_link_reopens_each_view(app: App, page: Page) -> None:
    page.goto(f"{app.url}/kernels")
    settle(page)
    expect(page.get_by_text(re.compile("At 90 % this layer runs"))).to_be_visible()
    expect(page.get_by_text(re.compile("finished example", re.I)).first).to_be_visible()
    expect(page.locator(CHART)).to_have_count(4)
    for view, words in (
        ("Break-even map", "stays ahead of the quickest float32 dense, hot cache"),
        ("Whole model", "Zeros and multiply-adds are counts"),
    ):
        page.get_by_test_id("stButtonGroup").get_by_text(view, exact=True).click()
        expect(page.get_by_text(re.compile(words))).to_be_visible()
        page.wait_for_url(re.compile("kernels-view="))
    page.reload()
    settle(page)
    expect(page.get_by_text(re.compile("Zeros and multiply-adds are counts"))).to_be_visible()
    expect(page.get_by_text("Four kinds of smaller")).to_be_visible()
