"""The Allocation page in a real browser: drag, keys, typing; forecast and truth; what stays."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import App, settle

LINK = "allocation?model=digits-lenet"


def open_page(page: Page, app: App, link: str = LINK) -> None:
    page.goto(f"{app.url}/{link}")
    settle(page)


def bar(page: Page, layer: str) -> Locator:
    return page.get_by_role("slider", name=f"Sparsity of {layer} (%)")


def weights_kept(page: Page) -> Locator:
    return page.get_by_test_id("stMetric").filter(has_text="Weights kept")


def test_a_dragged_bar_is_the_manual_allocation_of_all_pages(app: App, page: Page) -> None:
    open_page(page, app)
    expect(weights_kept(page)).to_contain_text("50.0 %")
    bar(page, "fc1").scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # charts above it may still take their height
    box = bar(page, "fc1").bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], middle, steps=4)
    page.mouse.move(box["x"] + 0.9 * box["width"], middle, steps=4)
    page.mouse.up()
    expect(page.get_by_text("keeps 1,638 of 16,384")).to_be_visible()
    expect(weights_kept(page)).to_contain_text("20.8 %")
    page.wait_for_url(re.compile("allocation=manual.*fc1.weight%3A\\+90"))
    page.reload()
    settle(page)
    expect(bar(page, "fc1")).to_have_attribute("aria-valuenow", "90")
    page.get_by_role("link", name="Masks", exact=True).click()
    expect(page.get_by_text("magnitude · unstructured · manual")).to_be_visible()


def test_keys_and_numbers_do_the_same_and_keep_the_focus(app: App, page: Page) -> None:
    open_page(page, app)
    own = bar(page, "conv2")
    own.focus()
    for key in ("ArrowRight", "PageUp", "PageUp", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.get_by_text("keeps 1,428 of 4,608")).to_be_visible()  # 69 % of them are gone
    settle(page)
    expect(own).to_be_focused()
    page.keyboard.press("End")
    expect(page.get_by_text(re.compile("manual: emptied: conv2.weight"))).to_be_visible()
    typed = page.get_by_role("spinbutton", name="Sparsity of conv2, typed (%)")
    typed.fill("12.5")
    typed.press("Enter")
    expect(page.get_by_text("keeps 4,032 of 4,608")).to_be_visible()
    typed.fill("250")
    typed.press("Enter")
    expect(own).to_have_attribute("aria-valuenow", "100")


def test_a_refused_layer_stays_and_one_sparsity_is_all_or_nothing(app: App, page: Page) -> None:
    open_page(page, app, f"{LINK}&structure=2:4")
    expect(bar(page, "conv1")).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_text(re.compile("stays dense: needs a multiple of 4"))).to_be_visible()
    bar(page, "fc2").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("keeps 1,280 of 1,280")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("keeps 640 of 1,280")).to_be_visible()


def test_forecast_and_truth_stand_side_by_side(app: App, page: Page) -> None:
    open_page(page, app, f"{LINK}&alloc-targets=50&alloc-targets=70")
    page.get_by_role("button", name=re.compile("All rules: run 16 new points")).click()
    expect(page.get_by_text("All rules: all 16 points are stored")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("16 of 16 measured points have a forecast")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("All rules: all 16"))).to_be_disabled()
    expect(page.get_by_text(re.compile(r"Measured [+-]0\.\d+ nats \(paired 95 %"))).to_be_visible()
    charts = page.locator('[data-testid="stVegaLiteChart"] :is(canvas, svg.marks)')
    expect(charts).to_have_count(11)  # a panel a rule, the radar, the pairs, the scatter


def test_nothing_is_wider_than_a_telephone(app: App, page: Page) -> None:
    page.set_viewport_size({"width": 420, "height": 900})
    open_page(page, app, f"{LINK}&alloc-targets=50&alloc-targets=70&sparsity=95")
    main = page.get_by_test_id("stMain")
    assert main.evaluate("e => e.scrollWidth <= e.clientWidth")
    right = bar(page, "fc1").evaluate("e => e.getBoundingClientRect().right")
    assert right < 420
