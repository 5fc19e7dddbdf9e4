"""A window as wide as a telephone: no page has anything beyond its right edge."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import App, assert_narrow

CHART = '[data-testid="stVegaLiteChart"] :is(canvas, svg.marks)'
SCORERS = "scorers?model=digits-mlp&layer=fc3.weight&scorers=magnitude&scorers=taylor&scorers=wanda"
CELLS = "text=Click a cell to take its row as A"


@pytest.fixture(scope="module")
def tab(window: BrowserContext) -> Iterator[Page]:
    """One that goes from page to page."""
    page = window.new_page()
    page.set_viewport_size({"width": 420, "height": 900})
    yield page
    page.close()


@pytest.mark.parametrize(
    ("link", "theme", "seen"),
    [
        ("", "light", CHART),
        (SCORERS, "light", CELLS),
        (SCORERS, "dark", CELLS),
        ("tradeoff", "light", CHART),
        ("masks?model=digits-mlp&layer=fc2.weight&mask-compare=true", "light", CHART),
        ("masks?model=digits-lenet&layer=conv2.weight&structure=2:4", "light", CHART),
        ("tickets?tickets-view=Behaviour", "light", CHART),
        ("moving?model=digits-mlp", "light", CHART),
        ("kernels", "light", CHART),
        ("runs", "light", "h1"),
    ],
)
def test_a_narrow_screen_does_not_scroll_sideways(
    app: App, tab: Page, link: str, theme: str, seen: str
) -> None:
    tab.emulate_media(color_scheme=theme)
    tab.goto(f"{app.url}/{link}")
    expect(tab.locator(seen).first).to_be_visible()
    assert_narrow(tab)
