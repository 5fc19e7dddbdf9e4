"""The Lottery ticket page in a real browser: the finished example and its link."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import App, settle

CHARTS = '[data-testid="stVegaLiteChart"] :is(canvas, svg.marks)'


def test_a_finished_example_is_there_on_first_open(app: App, page: Page) -> None:
    page.goto(f"{app.url}/tickets")
    settle(page)
    expect(page.get_by_role("heading", name="A finished example")).to_be_visible()
    expect(page.locator(CHARTS).first).to_be_visible()
    expect(page.get_by_text("8 rounds x 3 seeds x 5 arms", exact=False)).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Train 126 networks"))).to_be_enabled()
    page.get_by_test_id("stButtonGroup").get_by_text("Connectivity", exact=True).click()
    page.wait_for_url(re.compile("tickets-view=Connectivity"))
    settle(page)
    expect(page.get_by_text("Frankle et al. 2020", exact=False).first).to_be_visible()
