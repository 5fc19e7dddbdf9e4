"""The Masks page: what is drawn is what the core prunes."""

import io
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from app import cache, mask_charts, mask_source, overlap_charts
from app.filter_charts import filters, kernels_of, per_picture
from app.mask_source import Masked
from app.mask_view import agreement, matrix_of, pool
from app.mask_words import masks_python
from sparsity_core.recipe import Recipe
from sparsity_core.rounds import run
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task
from sparsity_core.weights import prunable
from tests.app_session import open_page, own_store, texts

__all__ = ["own_store"]


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A busy machine must not show the waiting screen, save where it is tested."""
    monkeypatch.setattr(mask_source, "PATIENCE", 60)
    monkeypatch.setattr(cache, "PATIENCE", 60)


def pruned(model, seed=0, **choices):
    *_, last = run(load_task(model), Recipe(**choices), seed=seed)
    return last.pruning


def drawn(app, number):
    """The rows that a chart on the page draws, all layers together."""
    found = []
    for dataset in app.get("vega_lite_chart")[number].proto.datasets:
        with pa.ipc.open_stream(io.BytesIO(dataset.data.data)) as stream:
            found.append(stream.read_pandas())
    return pd.concat(found)


def kept_on_screen(app, number, shape):
    """The mask as the chart of single weights shows it."""
    cells = drawn(app, number)
    cells = cells[cells["mask"].isin(["kept", "pruned"])]
    assert len(cells) == np.prod(shape)
    found = np.zeros(shape, dtype=bool)
    rows, columns = cells["top"].astype(int), cells["left"].astype(int)
    found[rows - rows.min(), columns - columns.min()] = cells["mask"] == "kept"
    return found


def test_single_weights_are_the_mask(own_store):
    app = open_page("masks", model="digits-lenet", layer="conv1.weight", sparsity="70")
    assert not app.exception
    mask = pruned("digits-lenet", sparsity=0.7).masks["conv1.weight"]
    assert np.array_equal(kept_on_screen(app, 0, (16, 9)), matrix_of(mask))
    assert "Square = kept, dot = pruned; lines and tint part the kernel positions" in texts(app)


def test_a_large_layer_is_pooled_and_the_pooling_is_named(own_store):
    app = open_page("masks", model="digits-mlp", layer="fc2.weight", sparsity="80")
    mask = matrix_of(pruned("digits-mlp", sparsity=0.8).masks["fc2.weight"])
    shares = drawn(app, 0)
    assert "100 x 300 weights, each cell = share kept of 2 x 5 weights" in texts(app)
    for cell in shares.head(40).itertuples():
        block = mask[cell.top : cell.bottom, cell.left : cell.right]
        assert cell.share == pytest.approx(100 * block.mean())
    assert shares["share"].mean() == pytest.approx(20)
    app.slider(key="mask-top").set_value(30)
    app.slider(key="mask-left").set_value(200)
    app.run()
    assert np.array_equal(kept_on_screen(app, 1, (64, 64)), mask[30:94, 200:264])


def test_groups_are_visible_as_groups(own_store):
    app = open_page("masks", model="digits-lenet", layer="fc1.weight", structure="2:4")
    assert "1 x 4 weights" in texts(app) or "2 x 4 weights" in texts(app)
    assert "lines and tint part the groups of 1 x 4" in texts(app)
    shown = kept_on_screen(app, 1, (64, 64))
    assert (shown.reshape(64, 16, 4).sum(2) == 2).all()
    borders = drawn(app, 1)["at"].dropna()
    assert list(borders) == list(range(0, 65, 4))


def test_the_table_says_what_was_asked_what_came_and_what_died(own_store):
    app = open_page("masks", model="digits-lenet", structure="out-channel", sparsity="50")
    pruning = pruned("digits-lenet", structure=STRUCTURES.make("out-channel"))
    table = app.dataframe[0].value.set_index("layer")
    for name, mask in ((n, pruning.masks[n]) for n in pruning.sparsities):
        rows = mask.flatten(1)
        assert table.loc[name, "asked (%)"] == pytest.approx(50)
        assert table.loc[name, "achieved (%)"] == pytest.approx(100 * pruning.achieved[name])
        assert table.loc[name, "dead outputs"] == int((rows.sum(1) == 0).sum())
        assert table.loc[name, "dead inputs"] == int(
            (mask.transpose(0, 1).sum((1, *range(2, mask.dim()))) == 0).sum()
        )


def test_rows_and_columns_that_died_are_listed(own_store):
    app = open_page("masks", model="digits-lenet", structure="out-channel", layer="conv1.weight")
    app.session_state["mask-view ['Weights', 'Filters', 'Rows and columns']"] = "Rows and columns"
    app.run()
    assert not app.exception
    mask = pruned("digits-lenet", structure=STRUCTURES.make("out-channel")).masks["conv1.weight"]
    dead = [i for i in range(16) if not mask[i].any()]
    listed = next(text.value for text in app.markdown if "Dead outputs" in text.value)
    assert f"{len(dead)} of 16" in listed
    numbers = listed.rpartition(": ")[2].replace("-", ",").split(",")
    assert {int(numbers[0]), int(numbers[-1])} == {dead[0], dead[-1]}
    assert "not yet a removed one" in texts(app)


def test_a_layer_that_stays_dense_says_why(own_store):
    app = open_page("masks", model="digits-lenet", structure="2:4", layer="conv1.weight")
    assert not app.exception
    assert "conv1.weight stays dense: needs a multiple of 4 inputs, got 1" in texts(app)


def test_an_emptied_layer_is_not_shown_in_silence(own_store):
    app = open_page("masks", model="digits-mlp", sparsity="100")
    assert not app.exception
    assert "has no weight left: the model has probably collapsed" in app.warning[0].value
    assert set(app.dataframe[0].value["note"]) == {"no weight left"}


def test_two_recipes_are_counted_weight_by_weight(own_store):
    app = open_page("masks", **{"model": "digits-mlp", "mask-compare": "true", "sparsity": "60"})
    assert not app.exception
    a, b = (
        pruned("digits-mlp", sparsity=0.6),
        pruned("digits-mlp", sparsity=0.6, scorer=SCORERS.make("random")),
    )
    table = next(d.value for d in app.dataframe if "Jaccard" in d.value).set_index("layer")
    for name in a.sparsities:
        one, other = a.masks[name], b.masks[name]
        assert table.loc[name, "kept by both"] == int((one & other).sum())
        assert table.loc[name, "only A"] == int((one & ~other).sum())
        assert table.loc[name, "only B"] == int((other & ~one).sum())
        assert table.loc[name, "kept by none"] == int((~one & ~other).sum())
        jaccard = float((one & other).sum() / (one | other).sum())
        assert table.loc[name, "Jaccard"] == pytest.approx(jaccard)
    counts = ["kept by both", "only A", "only B", "kept by none"]
    assert table.loc["all of these", counts].sum() == sum(
        m.numel() for n, m in a.masks.items() if n in a.sparsities
    )


def test_the_same_recipe_with_the_same_seed_overlaps_fully(own_store):
    same = {"mask-compare": "true", "scorer": "random", "mask-seed": "3", "mask-seed-b": "3"}
    app = open_page("masks", model="digits-mlp", **same)
    table = next(d.value for d in app.dataframe if "Jaccard" in d.value)
    assert (table["Jaccard"] == 1).all()
    app.number_input(key="mask-seed-b").set_value(4).run()
    table = next(d.value for d in app.dataframe if "Jaccard" in d.value)
    assert (table["Jaccard"] - table["Jaccard by chance"]).abs().max() < 0.1


def test_every_weight_of_a_comparison_has_its_shape():
    a = np.array([[1, 1, 0, 0], [1, 0, 0, 1]], dtype=bool)
    b = np.array([[1, 0, 1, 0], [1, 0, 0, 0]], dtype=bool)
    chart = overlap_charts.overlap(a, b, slice(0, 2), slice(0, 4), (2, 4)).to_dict()
    (rows,) = chart["datasets"].values()
    by_part = {
        part: {(r["top"], r["left"]) for r in rows if r["kept by"] == part}
        for part in overlap_charts.PARTS
    }
    assert by_part == {"both": {(0, 0), (1, 0)}, "only A": {(0, 1), (1, 3)}, "only B": {(0, 2)}}
    shapes = chart["encoding"]["shape"]["scale"]["range"]
    assert len(set(shapes)) == 3


def test_bars_share_out_what_either_recipe_keeps():
    a = np.array([[1, 1, 0, 0]], dtype=bool)
    b = np.array([[1, 0, 1, 0]], dtype=bool)
    chart = overlap_charts.overlap_by_layer({"fc": agreement(a, b)}).to_dict()
    rows = next(iter(chart["datasets"].values()))
    assert {row["part"]: row["weights"] for row in rows} == dict.fromkeys(overlap_charts.PARTS, 1)
    assert sum(row["share"] for row in rows) == pytest.approx(100)


def test_filters_place_every_weight_once():
    mask = np.random.default_rng(0).random((5, 7, 3, 3)) < 0.4
    values = np.arange(mask.size, dtype=float).reshape(mask.shape)
    chart = filters(mask, values, range(2, 5), by_value=False).to_dict()
    rows = [r for data in chart["datasets"].values() for r in data if "weight" in r]
    unique = {(r["left"], r["top"]): r for r in rows}
    assert len(unique) == 3 * 7 * 9
    for row in unique.values():
        y, x = (int(part) for part in row["place"].strip("()").split(","))
        place = (row["filter"], row["input"], y, x)
        assert (row["mask"] == "kept") == mask[place]
        assert row["weight"] == values[place]


def test_a_dead_filter_is_called_dead():
    mask = np.ones((2, 1, 3, 3), dtype=bool)
    mask[1] = False
    chart = filters(mask, np.ones(mask.shape), range(2), by_value=True).to_dict()
    titles = [r["title"] for data in chart["datasets"].values() for r in data if "title" in r]
    assert titles == ["0: 100% kept", "1: dead"]


def test_every_kind_of_convolution_has_kernels_to_draw():
    for shape in ((4, 3, 5), (4, 3, 5, 2), (4, 3, 2, 5, 2)):
        kernels = kernels_of(np.ones(shape))
        assert kernels.shape[:2] == (4, 3)
        assert kernels.ndim == 4
    assert per_picture((64, 512, 3, 3)) == 1  # never none, however large a filter is


def test_pictures_stay_small_enough_for_a_browser():
    for shape in ((500, 800), (64, 64, 3, 3), (2, 5000)):
        mask = np.random.default_rng(0).random((shape[0], int(np.prod(shape[1:])))) < 0.5
        chart = mask_charts.shares(pool(mask), shape).to_dict()
        assert sum(map(len, chart["datasets"].values())) <= 64 * 64


def test_python_makes_the_masks_on_screen(own_store):
    recipe = Recipe(0.75, scorer=SCORERS.make("random"), structure=STRUCTURES.make("4x4"))
    pruning = pruned(
        "digits-mlp", seed=5, sparsity=0.75, scorer=recipe.scorer, structure=recipe.structure
    )
    model = load_task("digits-mlp").model
    shown = Masked(recipe, 5, pruning, prunable(model), {})
    found: dict = {}
    exec(masks_python("digits-mlp", [shown, shown], "fc1.weight"), found)
    assert (found["mask_a"] == pruning.masks["fc1.weight"]).all()
    assert (found["mask_b"] == pruning.masks["fc1.weight"]).all()


def test_a_slow_recipe_is_waited_for_in_the_open(own_store, monkeypatch):
    mask_source._pruning.clear()
    monkeypatch.setattr(mask_source, "PATIENCE", 0.0)
    app = open_page("masks", model="digits-mlp", scorer="taylor", sparsity="33")
    assert not app.exception
    assert "Scoring and pruning the whole model" in texts(app)
    monkeypatch.setattr(mask_source, "PATIENCE", 60)
    app.run()
    assert "Scoring and pruning the whole model" not in texts(app)
    assert len(app.get("vega_lite_chart")) == 2


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"mask-compare": "true", "mask-structure": "blok"}, "did you mean 'block'"),
        ({"mask-compare": "true", "mask-structure": "9:4"}, "n:m needs"),
        ({"mask-compare": "true", "mask-structure": "7x7"}, "no layer can be pruned"),
    ],
)
def test_a_second_recipe_that_cannot_be_is_one_line(own_store, link, said):
    app = open_page("masks", model="digits-mlp", **link)
    assert not app.exception
    (error,) = app.error
    assert said in error.value


def test_a_model_that_hangs_is_said_in_time_and_others_are_drawn(own_store, monkeypatch):
    def script():
        import streamlit as st

        from app.mask_source import masked
        from sparsity_core.recipe import Recipe

        for model in ("digits-mlp", "tests.count_executions:task"):
            st.write(len(masked(model, "cpu", Recipe(0.5), 0).pruning.masks))

    go_on = threading.Event()

    def hanging(task, *given, **options):
        assert task.name == "digits-mlp" or go_on.wait(60)
        return run(task, *given, **options)

    monkeypatch.setattr(mask_source, "run", hanging)
    monkeypatch.setattr(mask_source, "PATIENCE", 1)
    monkeypatch.setenv("SPARSITY_TIME_LIMIT", "0.5")
    app = AppTest.from_function(script, default_timeout=60).run()
    assert "longer than the time limit of 0.5 s" in app.error[0].value
    assert "SPARSITY_TIME_LIMIT" in app.error[0].value
    go_on.set()
    monkeypatch.setattr(mask_source, "PATIENCE", 60)
    app.run()
    assert not app.error
    assert [text.value for text in app.markdown] == ["`3`", "`2`"]
