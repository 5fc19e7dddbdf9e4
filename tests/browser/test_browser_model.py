"""The first screen, in a real browser."""

import re

from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import WAIT, App, settle


def test_the_first_screen_means_something_before_any_click(app: App, page: Page) -> None:
    page.goto(app.url)
    settle(page)
    expect(page.get_by_role("heading", name="digits-lenet")).to_be_visible()
    expect(page.get_by_text("Accuracy on test")).to_be_visible()
    expect(page.get_by_text(re.compile(r"95 %: .* samples")).first).to_be_visible()
    charts = page.locator('[data-testid="stVegaLiteChart"]')
    expect(charts.first).to_be_visible()
    expect(page.get_by_text("sparsity sweep digits-lenet").first).to_be_visible()


def test_the_first_page_is_found_under_its_own_name_too(app: App, page: Page) -> None:
    page.goto(f"{app.url}/model?model=digits-mlp")
    settle(page)
    expect(page.get_by_role("heading", name="digits-mlp")).to_be_visible()
    expect(page.get_by_text("Page not found")).to_have_count(0)
    expect(page.get_by_test_id("stSidebarNavLink").filter(has_text="Model")).to_have_count(1)


def test_nothing_comes_from_the_network(app: App, window: BrowserContext) -> None:
    assert window.browser
    page = window.browser.new_page()  # in a window of its own, which has kept nothing
    page.set_default_timeout(WAIT)
    foreign: list[str] = []
    page.on("request", lambda r: None if "localhost" in r.url else foreign.append(r.url))
    page.goto(app.url)
    settle(page)
    page.context.close()
    assert [url for url in foreign if not url.startswith(("data:", "blob:"))] == []
