"""Stored runs in a real browser: tick, compare, go back to the form, delete on purpose."""

import re

import pytest
from playwright.sync_api import Page, expect

from sparsity_core.curve import plan_curve
from sparsity_core.recipe import Recipe
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task
from tests.browser.conftest import App, settle

ROW = 35  # pixels


@pytest.fixture(scope="module")
def runs(app: App) -> list[str]:
    """Two sweeps, a curve, a sweep to delete in the store, beside what other tests left there."""
    task = load_task("digits-mlp")
    store = Store(app.store)
    usual = {"sparsities": [0.5, 0.9], "samples": 50, "device": "cpu"}
    plans = [
        plan_sweep(task, scorers=["magnitude"], **usual),
        plan_sweep(task, scorers=["wanda"], structures=["2:4"], **usual),
        plan_curve(task, recipes=[Recipe()], **usual),
        plan_sweep(task, scorers=["random"], **usual),
    ]
    for plan in plans:
        store.save_run(plan, "done")
        store.add(plan.kind, list(plan.run(task, plan.points())))
    return [plan.digest for plan in plans]


def test_ticked_runs_are_opened_and_two_are_compared(app: App, page: Page, runs: list[str]) -> None:
    page.goto(f"{app.url}/runs")
    settle(page)
    # Above it there is a table of exports when there are any.
    table = page.locator('[data-testid="stDataFrame"]').last.locator("canvas").first
    box = table.bounding_box()
    assert box
    page.mouse.click(box["x"] + 15, box["y"] + ROW * 1.5)
    page.wait_for_url(re.compile("run=[0-9a-f]{8}$"))
    expect(page.locator("h3", has_text=re.compile("^Run "))).to_be_visible()
    page.goto(f"{app.url}/runs?run={runs[0][:8]}&run={runs[1][:8]}")
    settle(page)
    expect(page.get_by_role("heading", name="A against B")).to_be_visible()
    expect(page.get_by_text("scorer: A")).to_be_visible()


def test_the_search_leaves_what_has_all_words(app: App, page: Page, runs: list[str]) -> None:
    page.goto(f"{app.url}/runs?runs-search={runs[2][:8]}")
    settle(page)
    expect(page.get_by_text(re.compile(r"^1 of \d+ runs"))).to_be_visible()


@pytest.mark.parametrize(("number", "title"), [(0, "Sensitivity"), (2, "Trade-off")])
def test_a_run_is_opened_again_in_its_form(
    app: App, page: Page, runs: list[str], number: int, title: str
) -> None:
    page.goto(f"{app.url}/runs?run={runs[number][:8]}")
    settle(page)
    page.get_by_role("button", name=f"Open in {title}").click()
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("All .* points are stored"))).to_be_visible()


def test_a_run_is_deleted_only_after_its_name_is_typed(
    app: App, page: Page, runs: list[str]
) -> None:
    doomed = runs[3]
    page.goto(f"{app.url}/runs?run={doomed[:8]}")
    settle(page)
    page.get_by_text("Delete this run").click()
    page.get_by_text("I want to delete it").click()
    delete = page.get_by_role("button", name=re.compile(r"Delete \d+ points"))
    expect(delete).to_be_disabled()
    field = page.get_by_label(f"Type {doomed[:8]} to confirm")
    field.fill(doomed[:8])
    field.press("Enter")
    expect(delete).to_be_enabled()
    assert doomed in [run.id for run in Store(app.store).runs()]
    delete.click()
    expect(page.get_by_text(f"Run {doomed[:8]} and", exact=False)).to_be_visible()
    assert doomed not in [run.id for run in Store(app.store).runs()]
