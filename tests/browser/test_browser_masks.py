"""Masks in a real browser: click into the picture, compare, keep the view in the link."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import App, settle

CHART = '[data-testid="stVegaLiteChart"] :is(canvas, svg.marks)'


def open_page(page: Page, app: App, link: str) -> None:
    page.goto(f"{app.url}/{link}")
    settle(page)
    expect(page.locator(CHART).first).to_be_visible()


def test_a_click_into_the_picture_shows_the_single_weights_there(app: App, page: Page) -> None:
    open_page(page, app, "masks?model=digits-mlp&layer=fc2.weight")
    expect(page.get_by_text("Single weights: outputs 0-63, columns 0-63")).to_be_visible()
    box = page.locator(CHART).first.bounding_box()
    assert box
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])
    moved = page.get_by_text(re.compile(r"Single weights: outputs \d+-\d+, columns 1\d\d-\d+"))
    expect(moved).to_be_visible()


def test_two_recipes_are_compared_and_the_link_reopens_them(app: App, page: Page) -> None:
    open_page(page, app, "masks?model=digits-mlp&layer=fc3.weight")
    page.get_by_text("Compare with a second recipe, B").click()
    page.wait_for_url(re.compile("mask-compare=true"))
    settle(page)
    expect(page.get_by_text("triangle up = only A, triangle down = only B")).to_be_visible()
    page.reload()
    settle(page)
    expect(page.get_by_text("triangle up = only A, triangle down = only B")).to_be_visible()


def test_filters_are_drawn_for_convolutions_only(app: App, page: Page) -> None:
    open_page(page, app, "masks?model=digits-lenet&layer=conv2.weight")
    page.get_by_test_id("stButtonGroup").get_by_text("Filters", exact=True).click()
    expect(page.get_by_text("Filters 0-15 of 32")).to_be_visible()
    open_page(page, app, "masks?model=digits-lenet&layer=fc1.weight")
    expect(page.get_by_test_id("stButtonGroup").get_by_text("Rows and columns")).to_be_visible()
    assert page.get_by_test_id("stButtonGroup").get_by_text("Filters", exact=True).count() == 0
