"""Results of other tools beside ours; and tables that no spreadsheet runs."""

import io
import json

import pandas as pd
import pytest

from app.export import _csv
from sparsity_core.cli import main
from sparsity_core.errors import SparsityError
from sparsity_core.intake.other_results import Columns, OtherPoint, read_other
from sparsity_core.spreadsheet import without_formulas
from tests.app_session import open_page, own_store, texts  # noqa: F401

LAYERS = ("conv1.weight", "fc1.weight")
DISTILLER = b"""parameter,sparsity,top1,top5,loss
module.conv1.weight,0.00,72.6,90.7,1.14
module.conv1.weight,0.05,72.5,90.5,1.15
module.other.weight,0.05,72.5,90.5,1.15
"""
NNI = b"""layername,0.1,0.2,0.9
conv1,0.71,0.70,
module.fc1,0.72,0.69,0.1
"""


def test_distillers_csv():
    points = read_other(DISTILLER, LAYERS)
    assert points[1] == OtherPoint("conv1.weight", True, 0.05, "accuracy", 0.725, "Distiller")
    assert (points[2].layer, points[2].known) == ("module.other.weight", False)
    assert [p.value for p in points if p.metric == "loss"] == [1.14, 1.15, 1.15]
    assert [p.value for p in points if p.metric == "top-5"] == pytest.approx([0.907, 0.905, 0.905])


def test_nnis_csv_with_a_gap():
    points = read_other(NNI, LAYERS)
    found = sorted((p.layer, p.sparsity, p.value) for p in points)
    assert found == [
        ("conv1.weight", 0.1, 0.71),
        ("conv1.weight", 0.2, 0.70),
        ("fc1.weight", 0.1, 0.72),
        ("fc1.weight", 0.2, 0.69),
        ("fc1.weight", 0.9, 0.1),
    ]
    assert {p.tool for p in points} == {"NNI"}


def test_any_csv_with_a_map_of_columns():
    table = b"name,pruned %,acc\n_orig_mod.fc1,50,91.5\n"
    with pytest.raises(SparsityError, match="what: 'name', 'pruned %', 'acc'"):
        read_other(table, LAYERS)
    (point,) = read_other(table, LAYERS, Columns("name", "pruned %", "acc"))
    assert point == OtherPoint("fc1.weight", True, 0.5, "accuracy", 0.915, "another tool")
    with pytest.raises(SparsityError, match="no column 'top1'"):
        read_other(table, LAYERS, Columns("name", "pruned %", "top1"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no readable CSV"),
        (b"\xff\xfe\x00", "no readable CSV|neither"),
        (b"parameter,sparsity,top1\nconv1,none,none\n", "no point with a number"),
        (b"a" * (9 << 20), "more than"),
    ],
)
def test_what_is_no_table(content, message):
    with pytest.raises(SparsityError, match=message):
        read_other(content, LAYERS)


def test_strange_names_are_made_harmless_to_show():
    (point,) = read_other(b'layername,0.5\n"a\x1b[31m\x07b",0.5\n', LAYERS)
    assert point.layer == "a?[31m?b"


# Formulas


EVIL = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1"]


@pytest.mark.parametrize("cell", EVIL)
def test_no_cell_of_a_table_is_a_formula(cell):
    table = pd.DataFrame({"layer": [cell, "fc1"], "drop": [-0.5, 0.5], cell: ["a", "b"]})
    safe = without_formulas(table)
    cell = cell.replace("\t", " ").replace("\r", " ")
    assert safe["layer"].tolist() == [f"'{cell}", "fc1"]
    assert safe["drop"].tolist() == [-0.5, 0.5]
    assert safe.columns[2] == f"'{cell}"
    again = pd.read_csv(io.BytesIO(_csv(table)))
    assert again["layer"][0].startswith("'")


def test_what_the_command_writes_is_safe_too(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path / "store"))
    (tmp_path / "evil_names.py").write_text(
        "import torch\nfrom torch import nn\nfrom collections import OrderedDict\n"
        "def make():\n    return nn.Sequential(OrderedDict({'=1+1': nn.Linear(4, 3)}))\n"
        "def data():\n    return torch.ones(20, 4), torch.arange(20) % 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = "--data evil_names:data --sparsities .5 --out"
    file = tmp_path / "rows.csv"
    assert main(["sweep", "evil_names:make", *options.split(), str(file)]) == 0
    assert pd.read_csv(file)["layer"].tolist() == ["'=1+1.weight"]


# On the page


@pytest.mark.usefixtures("own_store")
def test_their_curve_lies_over_ours_and_says_whose_it_is(monkeypatch):
    app = open_page("sensitivity", model="digits-mlp")
    assert "Lay results of another tool over these" in {e.label for e in app.expander}
    content = b"parameter,sparsity,top1\nmodule.fc1.weight,0.5,90\n<b>x</b>,0.5,90\n"
    app.file_uploader(key="other results").upload("theirs.csv", content, "text/csv").run()
    assert not app.exception
    shown = texts(app)
    assert "1 of its layers are none of this sweep's: `<b>x</b>`" in shown
    assert "The dashed line is Distiller's, from the uploaded file" in shown
    spec = next(
        json.loads(chart.proto.spec)
        for chart in app.get("vega_lite_chart") + app.get("arrow_vega_lite_chart")
        if "Distiller (uploaded)" in chart.proto.spec
    )
    assert spec["layer"]
