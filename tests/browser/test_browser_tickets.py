"""The Lottery ticket page in a real browser: the finished example, its link, a narrow screen."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import WAIT, App, settle

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


def test_a_narrow_screen_does_not_scroll_sideways(app: App, chromium: Browser) -> None:
    context = chromium.new_context(viewport={"width": 420, "height": 900})
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(f"{app.url}/tickets?tickets-view=Behaviour")
    settle(page)
    expect(page.locator(CHARTS).first).to_be_visible()
    wide = page.evaluate(
        "document.querySelector('[data-testid=\"stMain\"]').scrollWidth"
        " - document.querySelector('[data-testid=\"stMain\"]').clientWidth"
    )
    context.close()
    assert wide <= 1
