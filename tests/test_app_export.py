"""The Export page: an example at once, files made in a process, what stays and why."""

import json
import subprocess
import sys

import pytest

from app import cache, export_job
from app.export_job import Jobs, Order, jobs
from app.export_view import before_and_after
from sparsity_core.errors import SparsityError
from sparsity_core.export.masks_file import read_masks
from sparsity_core.export.package import Wanted
from sparsity_core.recipe import Recipe
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task
from tests.app_session import open_page, own_store, texts

__all__ = ["own_store"]

LINK = {"model": "digits-mlp", "structure": "out-channel", "skip": "fc3.weight", "device": "cpu"}
PLAIN = {"export-onnx": "false", "export-epochs": "0"}


@pytest.fixture(autouse=True)
def _own_jobs(monkeypatch, own_store):
    monkeypatch.setattr(cache, "PATIENCE", 60)
    jobs.clear()
    yield
    for process, _ in jobs()._processes.values():
        process.kill()
        process.wait()
    jobs.clear()


def order(**changed):
    recipe = Recipe(0.5, structure=STRUCTURES.make("out-channel"), skip=("fc3.weight",))
    given = {"recipe": recipe, "device": "cpu", "wanted": Wanted(shrunk=True)} | changed
    return Order("digits-mlp", load_task("digits-mlp").model_digest, **given)


def doing(monkeypatch, code):
    """Jobs that run this Python instead of the command."""

    def start(_self, _order, log):
        return subprocess.Popen([sys.executable, "-c", code], stderr=log)

    monkeypatch.setattr(Jobs, "_start", start)


def test_the_first_screen_is_a_finished_example():
    app = open_page("export", **LINK)
    assert not app.exception
    said = texts(app)
    assert "A finished example" in said
    assert "sparsity prune digits-lenet" in said
    assert "made this one, which ships with this version" in said
    assert [m.label for m in app.metric][:2] == ["Accuracy", "Weights zero"]
    labels = [button.proto.label for button in app.get("download_button")]
    assert not any(label.startswith("Checkpoint") for label in labels)  # nothing to take yet


def test_before_and_after_by_eye():
    card = {
        "dense": {"parameters": 100, "multiply_adds": 1000, "bytes": 400},
        "pruned": {"not_zero": 50, "multiply_adds_by_weights_not_zero": 400},
        "files": {"model.safetensors": 300},
    }
    table = before_and_after(card).set_index("measure")
    assert table["pruned_share"].tolist() == [0.5, 0.4, 0.75]
    assert table["shrunk_share"].isna().all()
    card["shrunk"] = {"parameters": 25, "multiply_adds": 250}
    card["shrunk"]["seconds"] = {"dense": {"p50": 0.004}, "shrunk": {"p50": 0.001}}
    table = before_and_after(card).set_index("measure")
    assert table["shrunk_share"]["milliseconds a batch"] == 0.25
    assert table["dense"]["milliseconds a batch"] == 4


def test_orders_that_differ_have_their_own_folders():
    folders = {
        order().folder,
        order(wanted=Wanted(shrunk=False)).folder,
        order(wanted=Wanted("csr", shrunk=True)).folder,
        order(recipe=Recipe(0.5)).folder,
    }
    assert len(folders) == 4
    assert order().folder == order().folder


def test_the_button_prunes_in_a_process_and_the_files_are_there(own_store):
    app = open_page("export", **LINK, **PLAIN)
    button = next(b for b in app.button if b.label == "Prune and write the files")
    button.click().run()
    assert not app.exception
    ((process, _),) = jobs()._processes.values()
    assert process.wait(600) == 0
    app.run()
    assert not app.exception
    (folder,) = (own_store / "exports").iterdir()
    (written,) = [b for b in app.button if b.label == "These files are written"]
    assert written.disabled
    assert "A finished example" not in texts(app)
    labels = [button.proto.label for button in app.get("download_button")]
    assert any(label.startswith("Checkpoint: the same keys") for label in labels)
    assert any(label.startswith("Shrunk model") for label in labels)
    assert set(read_masks(folder / "masks.safetensors")) >= {"fc1.weight", "fc2.weight"}
    assert Recipe.from_yaml((folder / "recipe.yaml").read_text()).skip == ("fc3.weight",)
    # The Runs page has them too, and takes them away when asked twice.
    app.switch_page("../pages/runs.py").run()
    assert not app.exception
    table = next(found.value for found in app.dataframe if "worth" in found.value)
    assert list(table["model"]) == ["digits-mlp"]
    (made,) = jobs().made()
    assert made.folder == folder
    # Another server, another day: what lies there is known.
    assert Jobs().state(jobs_order(folder)).card
    jobs().delete(made)
    assert not folder.exists()
    assert not jobs().made()


def test_exports_of_models_that_a_tab_does_not_know_are_not_its_to_see(own_store):
    card = {"recipe": Recipe(0.5).to_dict(), "metric": "accuracy", "value": 0.75, "drop": 0.01}
    for name, model in (("a", "digits-mlp"), ("b", f"upload:{'0' * 32}")):
        (own_store / "exports" / name).mkdir(parents=True)
        (own_store / "exports" / name / "card.json").write_text(json.dumps(card | {"model": model}))
    app = open_page("runs", **LINK)
    (table,) = [found.value for found in app.dataframe]
    assert list(table["model"]) == ["digits-mlp"]
    assert list(table["worth"]) == ["accuracy 75.00%, drop +1.00 points"]


def jobs_order(folder):
    found = order(wanted=Wanted(shrunk=True))
    assert found.folder == folder
    return found


def test_a_job_under_way_is_shown_and_can_be_cancelled(monkeypatch):
    doing(monkeypatch, "import time; time.sleep(600)")
    app = open_page("export", **LINK, **PLAIN)
    next(b for b in app.button if b.label == "Prune and write the files").click().run()
    assert "Pruning, measuring and writing" in texts(app)
    assert [order.model for order in jobs().under_way()] == ["digits-mlp"]
    assert not [b for b in app.button if b.label == "Prune and write the files"]
    app.button(key="export-cancel").click().run()
    assert not app.exception
    assert "Cancelled." in texts(app)
    assert [b for b in app.button if b.label == "Prune and write the files"]


def test_what_the_command_says_is_said(monkeypatch):
    doing(monkeypatch, "import sys; print('sparsity: it rained', file=sys.stderr); sys.exit(2)")
    found, asked = Jobs(), order()
    found.begin(asked)
    found._processes[asked.folder][0].wait(60)
    assert found.state(asked).error == "it rained"
    found.begin(asked)  # and it may be tried again
    found._processes[asked.folder][0].wait(60)


def test_an_order_is_begun_once(monkeypatch):
    doing(monkeypatch, "import time; time.sleep(600)")
    found, asked = Jobs(), order()
    found.begin(asked)
    process = found._processes[asked.folder][0]
    found.begin(asked)
    assert found._processes[asked.folder][0] is process
    assert found.state(asked).running
    found.cancel(asked)
    assert not found.state(asked).running
    assert found.state(asked).card is None


def test_a_folder_that_cannot_be_made_is_an_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(export_job, "default_folder", lambda: tmp_path / "file")
    with pytest.raises(SparsityError, match="cannot be written"):
        Jobs().begin(order())
