"""Moving masks in a real browser: the example, its film scrubbed and played."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import App, settle

CHART = '[data-testid="stVegaLiteChart"] :is(canvas, svg.marks)'


def test_the_film_plays(app: App, page: Page) -> None:
    page.goto(f"{app.url}/moving?model=digits-mlp")
    settle(page)
    expect(page.get_by_text("A finished example")).to_be_visible()
    expect(page.locator(CHART).first).to_be_visible()
    step = page.get_by_text(re.compile(r"Step [\d,]+, since step"))
    expect(step).to_be_visible()
    first = step.inner_text()
    page.get_by_text("Play", exact=True).click()
    expect(step).not_to_have_text(first)
