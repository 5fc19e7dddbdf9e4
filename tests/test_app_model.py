"""The Model page and the frame around all pages."""

import io
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from app import cache, export, uploads
from app.model_charts import weight_histogram
from app.model_view import _picture
from app.sensitivity_charts import all_layers, heatmap, one_layer
from app.sensitivity_table import frame_of
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.plans import row_from_dict
from sparsity_core.task import CatalogEntry, Task, catalog, load_task
from tests.app_session import open_page, own_store, texts

__all__ = ["own_store"]


def test_the_first_screen_answers_before_any_click(own_store):
    app = open_page("model")
    assert not app.exception
    assert app.title[0].value == "digits-lenet"
    card = load_task("digits-lenet").card
    for metric, split in zip(app.metric, ("train", "validation", "test"), strict=True):
        found = card["accuracy"][split]
        assert metric.label == f"Accuracy on {split}"
        assert metric.value == f"{found['value']:.1%}"
        right = round(found["value"] * found["samples"])
        interval = binomtest(right, found["samples"]).proportion_ci(method="wilson")
        shown = f"95 %: {interval.low:.1%} to {interval.high:.1%}, {found['samples']:,} samples"
        assert shown in texts(app)
    shipped = catalog()["digits-lenet"].sensitivity()
    assert f"`{shipped['command']}`" in texts(app)
    assert len(app.get("vega_lite_chart")) == 3


def test_a_wrong_answer_is_marked_in_words(own_store):
    app = open_page("model")
    task = load_task("digits-lenet")
    with torch.no_grad():
        all_answers = task.model(task.test.inputs).argmax(1)
    places = np.linspace(0, len(task.test) - 1, 24).astype(int)
    answers, targets = all_answers[places], task.test.targets[places]
    wrong = (answers != targets).nonzero().flatten().tolist()
    assert f"{len(wrong)} wrong" in texts(app)
    captions = [image.caption for image in app.get("image")[0].proto.imgs]
    for i in range(24):
        expected = f"{answers[i]}, is {targets[i]}" if i in wrong else f"{answers[i]}"
        assert captions[i] == expected


def test_the_layers_stand_with_counts_by_hand(own_store):
    layers = open_page("model").dataframe[0].value.set_index("layer")
    # conv2: 32 x 16 x 3 x 3 weights, each used at 4 x 4 positions after pooling
    assert layers.loc["conv2.weight", "weights"] == 32 * 16 * 9
    assert layers.loc["conv2.weight", "multiply-adds"] == 32 * 16 * 9 * 4 * 4
    assert layers.loc["conv2.weight", "shape"] == "32 x 16 x 3 x 3"
    for column in ("share of weights", "share of multiply-adds"):
        assert layers[column].sum() == pytest.approx(100)


def test_a_structure_that_does_not_fit_is_noted(own_store):
    layers = open_page("model", structure="2:4").dataframe[0].value.set_index("layer")
    assert "needs a multiple of 4 inputs" in layers.loc["conv1.weight", "note"]
    assert layers.loc["conv2.weight", "note"] == ""


class Tied(nn.Module):
    """Two layers that share a weight, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.unused = nn.Linear(4, 4)
        self.last = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.first(x.flatten(1))))


@pytest.fixture
def tied(monkeypatch):
    digits = load_task("digits-mlp")
    flat = Split(digits.test.inputs.flatten(1), digits.test.targets, "test")

    def load(seed: int) -> Task:
        return replace(digits, name="tied", model=Tied().eval(), card=None, test=flat)

    entry = CatalogEntry("tied", "Shared weights", load, lambda: None, lambda: None)
    monkeypatch.setattr(cache, "catalog", lambda: {"tied": entry})
    monkeypatch.setattr(cache, "load_task", load)
    cache._entries.clear()
    cache._loading.clear()
    yield
    cache._entries.clear()
    cache._loading.clear()


def test_tied_and_unused_layers_are_noted_and_a_missing_card_is_said(own_store, tied):
    app = open_page("model")
    assert not app.exception
    layers = _layers(app)
    assert layers.loc["first.weight", "note"] == "shared with second.weight; used 2 times"
    assert layers.loc["unused.weight", "note"] == "never used in the forward pass"
    assert "without a card" in texts(app)
    assert not app.get("image")  # its inputs are no pictures
    assert any("answer" in str(frame.value.index) for frame in app.dataframe)


def test_a_model_without_data_is_listed_and_says_what_to_do(own_store, monkeypatch):
    monkeypatch.delenv("SPARSITY_DATA", raising=False)
    app = open_page("model", model="mnist-lenet5")
    assert not app.exception
    assert "mnist-lenet5" in app.selectbox(key="model").options
    assert any("SPARSITY_DATA" in error.value for error in app.error)
    assert any("mnist-lenet5" in warning.value for warning in app.warning)
    present = open_page("model")
    assert any("Data absent here" in text and "mnist-lenet5" in text for text in _captions(present))


def test_a_refused_upload_leaves_the_form_as_it_was(own_store):
    app = open_page("model", model="digits-lenet")
    app.segmented_control(key="upload kind").set_value("Weights of a listed model").run()
    assert app.selectbox(key="upload of").value == "digits-lenet"  # the one on screen
    read: Future[uploads.Admitted] = Future()
    app.session_state[uploads._PENDING] = uploads.Pending("weights", read)
    app.run()
    assert not any(control.key == "upload kind" for control in app.segmented_control)
    read.set_exception(SparsityError("weights.safetensors: no tensors"))
    app.run()
    assert "weights.safetensors: no tensors" in [code.value for code in app.code]
    assert app.segmented_control(key="upload kind").value == "Weights of a listed model"


def _layers(app):
    return next(d.value for d in app.dataframe if "layer" in d.value).set_index("layer")


def _captions(app):
    return [caption.value for caption in app.caption]


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"model": "digits-lenett"}, "model `digits-lenett`"),
        ({"scorer": "magnitud"}, "scorer `magnitud`"),
        ({"allocation": "none"}, "allocation `none`"),
        ({"device": "tpu"}, "device `tpu`"),
        ({"sparsity": "900"}, "sparsity `900`"),
        ({"sparsity": "-1"}, "sparsity `-1`"),
        ({"sparsity": "nan"}, "sparsity `nan`"),
    ],
)
def test_a_link_with_an_unknown_value_says_so(own_store, link, said):
    app = open_page("model", **link)
    assert not app.exception
    assert app.title[0].value == "digits-lenet"
    assert any(said in toast.value for toast in app.toast)


def test_a_structure_that_cannot_be_is_an_error_in_words(own_store):
    app = open_page("model", structure="5:4")
    assert not app.exception
    assert any("Until then every weight is on its own" in error.value for error in app.error)


def test_a_manual_allocation_is_read_and_a_bad_line_is_named(own_store):
    app = open_page("model", allocation="manual", manual="conv1.weight: 30\nfc1.weight: 50")
    recipe = app.session_state["frame"].recipe
    assert recipe.allocation.layers == (("conv1.weight", 0.3), ("fc1.weight", 0.5))
    app.text_area(key="manual").set_value("fc1.weight: 130").run()
    assert "'fc1.weight: 130'" in app.error[0].value
    assert app.session_state["frame"].recipe.allocation.layers == ()


def test_the_histogram_counts_every_weight_and_marks_zero():
    weights = np.array([-1.0, -0.5, 0.0, 0.0, 0.25, 1.0], np.float32)
    chart, table = weight_histogram(weights, logarithmic=False)
    assert table["weights"].sum() == 6
    (zero,) = table[table["holds"] == "zero"].to_dict("records")
    assert zero["from"] < 0 < zero["to"]
    assert zero["weights"] == 2
    broken = np.array([np.nan, np.inf, 0.5], np.float32)
    assert weight_histogram(broken, logarithmic=False)[1]["weights"].sum() == 1
    assert weight_histogram(np.zeros(3, np.float32), logarithmic=True)[1]["weights"].sum() == 3
    assert chart.to_dict()


def test_a_picture_keeps_every_pixel_as_a_square():
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    drawn = _picture(image)
    assert drawn[0, 0, 0] == 0
    assert drawn[63, 63, 0] == 255
    assert (drawn[:8, :8, :3] == drawn[0, 0, 0]).all()
    assert _picture(np.zeros((3, 32, 32), np.float32)).shape[2] == 4


@pytest.fixture
def shipped() -> pd.DataFrame:
    rows = catalog()["digits-lenet"].sensitivity()["rows"]
    return frame_of([row_from_dict("sweep", row) for row in rows])


@pytest.mark.parametrize("draw", ["all_layers", "one_layer", "heatmap", "histogram"])
def test_charts_become_pictures_and_tables(shipped, draw):
    one_way = shipped[shipped["way"] == "taylor · out-channel"]
    chart = {
        "all_layers": lambda: all_layers(one_way, "fc1.weight", "accuracy"),
        "one_layer": lambda: one_layer(shipped[shipped["layer"] == "fc1.weight"], "accuracy"),
        "heatmap": lambda: heatmap(one_way, "fc1.weight"),
        "histogram": lambda: weight_histogram(np.ones(3, np.float32), logarithmic=True)[0],
    }[draw]()
    assert export._png(chart).startswith(b"\x89PNG")
    assert export._svg(chart).startswith(b"<svg")
    read = pd.read_csv(io.BytesIO(export._csv(shipped)))
    assert list(read["achieved_sparsity"].dropna()) == pytest.approx(
        list(shipped["achieved_sparsity"].dropna())
    )


def test_no_page_is_longer_than_a_screenful_or_two():
    for page in (Path(__file__).parent.parent / "pages").glob("*.py"):
        assert len(page.read_text().splitlines()) <= 100, page
