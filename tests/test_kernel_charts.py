"""Charts and tables of kernels, from the finished example; words that say a plan."""

import dataclasses
import io

import pandas as pd
import pytest

from app import export
from app.forms import structures
from app.kernel_charts import bars, frame_of, roofline, speedups, storage
from app.kernel_map import even_map
from app.kernel_words import kernels_command, kernels_python, latency_python
from app.latency_charts import before_after, four_kinds
from sample_models.card import read_kernels
from sparsity_core.cli.main import _parser
from sparsity_core.kernels.compact import compact, kernel_rows, latency_rows
from sparsity_core.kernels.latency import plan_latency
from sparsity_core.kernels.latency_row import WHOLE
from sparsity_core.kernels.latency_words import model_in_words
from sparsity_core.kernels.plan import plan_kernels
from sparsity_core.recipe import Recipe
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task


@pytest.fixture(scope="module")
def example():
    return read_kernels()


@pytest.fixture(scope="module")
def layer(example):
    return kernel_rows(example["layer"])


def setting(rows, batch=1, cache="hot"):
    return [row for row in rows if (row.batch, row.cache) == (batch, cache)]


def test_rows_survive_being_made_small(layer, example):
    again = kernel_rows(compact(layer))
    assert again == layer
    models = latency_rows(example["models"])
    assert latency_rows(compact(models)) == models


def test_the_example_is_complete_and_says_its_machine(layer, example):
    assert {row.batch for row in layer} == {1, 8, 64, 256}
    assert {row.cache for row in layer} == {"hot", "cold"}
    assert all(row.device.startswith("cpu: ") and "numba" in row.versions for row in layer)
    models = latency_rows(example["models"])
    assert {"digits-lenet", "cifar10-resnet20"} <= {row.model for row in models}
    assert all(row.status == "ok" for row in models)


def test_bars_stand_in_order_of_time_with_quantiles(layer):
    table = frame_of([row for row in setting(layer) if row.asked == 0.9])
    chart = bars(table, 0.03).to_dict()
    order = chart["layer"][1]["encoding"]["y"]["sort"]
    assert order == table.sort_values("p50")["kernel"].tolist()
    quantiles = chart["layer"][2]["encoding"]
    assert (quantiles["x"]["field"], quantiles["x2"]["field"]) == ("p20", "p80")
    (band,) = [d for d in chart["datasets"].values() if "best" in d[0]]
    best = table.loc[table["speedup_vs_dense"].sub(1).abs().idxmin(), "p50"]
    assert band[0]["best"] == pytest.approx(best, rel=2e-3)
    assert band[0]["to"] == pytest.approx(band[0]["best"] * 1.03)


def test_break_even_is_marked_where_a_line_crosses_one(layer):
    row = next(r for r in layer if r.kernel == "tiled")
    rows = [
        dataclasses.replace(row, sparsity=s, asked=s, speedup_vs_dense=x)
        for s, x in ((0.5, 0.5), (0.7, 2.0))
    ]
    chart = speedups(frame_of(rows), rows, 0.02).to_dict()
    diamonds = chart["layer"][-1]
    assert diamonds["mark"]["shape"] == "diamond"
    (marked,) = chart["datasets"][diamonds["data"]["name"]]
    assert marked["zeros"] == pytest.approx(60)


def test_the_roof_is_the_peak_and_the_bandwidths(layer):
    table = frame_of([row for row in setting(layer, 64) if row.asked == 0.9])
    chart = roofline(table).to_dict()
    slopes = chart["datasets"][chart["layer"][0]["data"]["name"]]
    assert max(point["rate"] for point in slopes) <= table["peak"].max() / 1e9 * 1.001
    points = chart["datasets"][chart["layer"][-1]["data"]["name"]]
    for point in points:
        assert point["intensity"] == pytest.approx(point["multiply_adds"] / point["moved"])
        assert point["rate"] == pytest.approx(point["multiply_adds"] / point["p50"] / 1e3)


def test_storage_draws_each_format_once(layer):
    chart = storage(frame_of(layer)).to_dict()
    (data,) = chart["datasets"].values()
    assert len({(d["kernel"], d["zeros"]) for d in data}) == len(data)


def test_the_map_by_eye(layer):
    row = next(r for r in layer if r.kernel == "tiled")

    def line(kernel, batch, *pairs):
        return [
            dataclasses.replace(
                row, kernel=kernel, batch=batch, sparsity=s, asked=s, speedup_vs_dense=x
            )
            for s, x in pairs
        ]

    rows = [
        *line("tiled", 1, (0.5, 0.5), (0.7, 2.0)),
        *line("permute", 1, (0.5, 0.9), (0.7, 0.95)),
        *line("tiled", 8, (0.5, 0.5), (0.7, 0.9)),
        *line("tiled", 64, (0.5, 1.5), (0.7, 2.0)),
    ]
    found = even_map(rows).set_index("batch")
    assert found["text"].to_dict() == {1: "60", 8: "never", 64: "≤ 50"}
    assert found["kernel"].to_dict() == {1: "tiled", 8: "", 64: "tiled"}
    assert set(found["shape"]) == {"768 x 3072"}


def test_four_kinds_of_smaller_and_the_sentence_by_eye(example):
    rows = [r for r in latency_rows(example["models"]) if r.model == "cifar10-resnet20"]
    whole = dataclasses.replace(
        next(row for row in rows if row.layer == WHOLE),
        dense_p50=4000.0,
        folded_p50=3000.0,
        compiled_p50=None,
        onnxruntime_p50=2400.0,
        p50=1200.0,
        speedup=2.0,
        noise=0.02,
        weights=1000,
        nonzeros=100,
        macs=5000,
        effective_macs=600,
        batch=1,
        dense_bytes=4000,
        bytes=900,
        sparsity=0.9,
        kernel="packed",
    )
    _, table = four_kinds(whole)
    left = dict(zip(table["what"], table["left of dense (%)"], strict=True))
    assert left["weights not zero"] == 10
    assert left["stored as it runs"] == 22.5
    assert left["multiply-adds not by zero"] == 12
    assert left["time, over the best dense"] == 50
    one = next(row for row in rows if row.layer != WHOLE)
    layers = [
        dataclasses.replace(one, layer="a", kernel="tiled", speedup=3.04),
        dataclasses.replace(one, layer="b", kernel="as it was", speedup=1.0),
    ]
    assert model_in_words([whole, *layers]) == (
        "cifar10-resnet20 with 90 % zeros at batch 1: 1.2 ms packed, 2.4 ms dense (onnxruntime), "
        "2.0x faster. 1 of 2 layers pay, most of all a (3.0x, tiled)."
    )
    loses = dataclasses.replace(whole, speedup=0.5)
    assert "sparse loses, 2.0 times as long" in model_in_words([loses, *layers])
    assert before_after(rows)[1]["layer"].tolist() == [
        r.layer for r in rows if r.layer != WHOLE and r.p50 is not None
    ]


def test_words_say_the_same_plan():
    plan = plan_kernels(shapes=[(8, 32)], sparsities=[0.5, 0.9], batches=[1], kernels=["tiled"])
    chosen = _parser().parse_args(kernels_command(plan).split()[1:])
    assert (chosen.shape, chosen.sparsities, chosen.formats) == (
        *("8x32", "0.5,0.9"),
        "dense,dense-transposed,dense-onednn,csr,tiled",
    )
    scope: dict = {}
    first, _, _ = kernels_python(plan).partition("rows =")
    exec(first, scope)
    assert scope["plan"] == plan
    task = load_task("digits-mlp")
    latency = plan_latency(task, Recipe(0.8), batches=[2])
    first, _, _ = latency_python(latency).partition("rows =")
    exec(first, scope)
    assert scope["plan"] == latency


def test_cpu_patterns_are_offered_as_structures():
    assert {"3:32", "4x1", "2:4"} <= set(structures())
    assert all(STRUCTURES.label(STRUCTURES.make(text)) == text for text in structures())


def test_tables_are_exported_as_parquet_as_well():
    table = pd.DataFrame({"a": [1, None], "b": ["x", 2]})
    again = pd.read_parquet(io.BytesIO(export._parquet(table)))
    assert again["b"].tolist() == ["x", "2"]
