"""Taking a pruned model away in a real browser: the files are there, downloaded, and listed."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from safetensors.numpy import load_file

from app.export_job import Order
from sparsity_core.export.package import Wanted, write_package
from sparsity_core.export.pruned import carry_out
from sparsity_core.recipe import Recipe
from sparsity_core.task import load_task
from tests.browser.conftest import App, settle

PLAIN = "model=digits-mlp&device=cpu&export-epochs=0&export-shrunk=false&export-onnx=false"


def test_finished_files_are_downloaded_and_listed(
    app: App, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSITY_STORE", str(app.store))
    task, wanted = load_task("digits-mlp"), Wanted("dense", False, False, 64)
    order = Order("digits-mlp", task.model_digest, Recipe(0.5), "cpu", wanted)
    order.folder.mkdir(parents=True)
    write_package(carry_out(task, Recipe(0.5), device="cpu"), order.folder, wanted)
    page.goto(f"{app.url}/export?{PLAIN}")
    settle(page)
    expect(page.get_by_role("button", name="These files are written")).to_be_disabled()
    with page.expect_download() as caught:
        page.get_by_role("button", name="Checkpoint: the same keys").click()
    caught.value.save_as(tmp_path / "model.safetensors")
    weights = load_file(tmp_path / "model.safetensors")
    assert (weights["fc1.weight"] == 0).mean() == 0.5
    page.goto(f"{app.url}/runs?model=digits-mlp")
    expect(page.get_by_role("heading", name="Exports")).to_be_visible()
    expect(page.get_by_text("1 finished. Tick one to take its files")).to_be_visible()
