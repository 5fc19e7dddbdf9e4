"""Moving masks in a real browser: the example, its film scrubbed and played."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import WAIT, App, settle

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


def test_a_narrow_screen_does_not_scroll_sideways(app: App, chromium: Browser) -> None:
    context = chromium.new_context(viewport={"width": 420, "height": 900})
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(f"{app.url}/moving?model=digits-mlp")
    settle(page)
    expect(page.locator(CHART).first).to_be_visible()
    page.wait_for_timeout(2000)
    wide = page.evaluate(
        "[...document.querySelectorAll('[data-testid=\"stMainBlockContainer\"] *')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1"
        ' && !e.closest(\'[data-testid="stDataFrame"], pre, [data-testid="stTooltipContent"]\'))'
        ".map(e => e.outerHTML.slice(0, 120))"
    )
    context.close()
    assert wide == []
