"""A window as wide as a telephone: nothing beyond its right edge, and more than a form at first."""

from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import App, assert_narrow

CHART = '[data-testid="stVegaLiteChart"] :is(canvas, svg.marks)'
SCORERS = "scorers?model=digits-mlp&layer=fc3.weight&scorers=magnitude&scorers=taylor&scorers=wanda"
CELLS = "text=Click a cell to take its row as A"
SHIPPED = "text=A finished example"
CURVES = "text=/A finished example|Horizontal axis/"  # an earlier test may have stored some points


@pytest.mark.parametrize(
    ("link", "theme", "drawn", "first"),
    [
        ("", "light", CHART, "text=Accuracy on test"),
        (SCORERS, "light", CELLS, "text=A: magnitude"),
        (SCORERS, "dark", CELLS, "text=A: magnitude"),
        ("tradeoff", "light", CHART, CURVES),
        ("masks?model=digits-mlp&layer=fc2.weight&mask-compare=true", "light", CHART, "h1"),
        ("masks?model=digits-lenet&layer=conv2.weight&structure=2:4", "light", CHART, "canvas"),
        ("tickets?tickets-view=Behaviour", "light", CHART, SHIPPED),
        ("moving?model=digits-mlp", "light", CHART, SHIPPED),
        ("kernels", "light", CHART, "text=A finished example that ships"),
        ("runs", "light", "h1", "h1"),
    ],
)
def test_a_narrow_screen_does_not_scroll_sideways_and_begins_with_a_result(
    app: App, page: Page, link: str, theme: Literal["light", "dark"], drawn: str, first: str
) -> None:
    page.set_viewport_size({"width": 420, "height": 900})
    page.emulate_media(color_scheme=theme)
    page.goto(f"{app.url}/{link}")
    expect(page.locator(drawn).first).to_be_visible()
    assert_narrow(page)
    expect(page.locator(first).first).to_be_in_viewport()
