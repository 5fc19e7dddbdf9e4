"""A run as a page that loads nothing, and as a notebook that measures the same points."""

import json
import re
from dataclasses import replace

import nbformat
import pytest

from sparsity_core.cli import main
from sparsity_core.curve import plan_curve
from sparsity_core.plans import PLANS, row_from_dict
from sparsity_core.recipe import Recipe
from sparsity_core.report.notebook import notebook
from sparsity_core.report.page import page
from sparsity_core.report.pictures import pictures
from sparsity_core.scorers import SCORERS
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task

FEW = {"sparsities": [0.5, 0.9], "samples": 60, "device": "cpu"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A sweep and a curve, done."""
    store, task = Store(tmp_path_factory.mktemp("store")), load_task("digits-mlp")
    random = Recipe(scorer=SCORERS.make("random"))
    for plan in (
        plan_sweep(task, layers=["fc1", "fc2"], structures=["unstructured", "2:4"], **FEW),
        plan_curve(task, recipes=[Recipe(), random], **FEW),
    ):
        store.save_run(plan, "done")
        store.add(plan.kind, list(plan.run(task, plan.points())))
    return store


def parts(store, kind):
    run = next(run for run in store.runs() if run.kind == kind)
    plan = store.plan(run.id)
    return run, plan, store.rows(plan)


@pytest.mark.parametrize("kind", ["sweep", "curve"])
def test_the_page_loads_nothing_and_says_everything(store, kind):
    run, plan, rows = parts(store, kind)
    text = page(run, plan, rows)
    for loads in ("<script", "<link", "<img", "<iframe", " src=", "@import", "url(", 'href="http'):
        assert loads not in text
    assert set(re.findall(r"https?://[^\s\"'<]*", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    for said in (
        *(plan.setting.model_digest, plan.setting.data_digest, plan.setting.train_digest),
        *(run.id, rows[0].versions, rows[0].device, *(row.point_id for row in rows)),
        "accuracy (%)",
        f"{100 * rows[0].value:.2f}",
        "accuracy on 60 validation samples",
    ):
        assert said in text
    assert text.count("<svg") == len(pictures(kind, rows)) == (2 if kind == "sweep" else 1)


def test_names_are_text_on_the_page(store):
    run, plan, rows = parts(store, "sweep")
    evil = "<script>alert(1)</script>"
    rows = [replace(row, layer=evil, message=evil, device=evil) for row in rows]
    text = page(replace(run, title=evil), plan, rows)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_rows_without_numbers_have_a_reason_and_no_chart(store):
    run, plan, _ = parts(store, "sweep")
    rows = [plan.unmeasured(point, "failed", "it rained") for point in plan.points()]
    text = page(run, plan, rows)
    assert "<svg" not in text
    assert "<b>failed</b> (8): it rained" in text
    assert "No point is stored" in page(run, plan, [])


@pytest.mark.parametrize("kind", PLANS)
def test_every_kind_of_run_has_a_page_and_a_notebook(store, kind):
    run, plan, _ = parts(store, "sweep")
    known = {"point_id": "0123456789abcdef", "status": "ok", "message": ""}
    row = row_from_dict(kind, known | {"device": "cpu", "versions": "torch"})
    assert "0123456789abcdef" in page(replace(run, kind=kind), plan, [row])
    nbformat.validate(nbformat.reads(notebook(replace(run, kind=kind), plan, [row]), as_version=4))


FLAT = {"point_id": "0", "status": "ok", "message": "", "device": "cpu", "versions": "torch"}
ACCURATE = {"metric": "accuracy", "samples": 60, "split": "test", "seed": 0}


@pytest.mark.parametrize(
    ("kind", "common", "rows", "heading", "said"),
    [
        (
            "tickets",
            ACCURATE | {"rewind": 0, "round": 1},
            [{"arm": a, "sparsity": s, "value": 0.9} for a in ("ticket", "random")
             for s in (0.5, 0.9)],
            "", ("weights left", "accuracy on 60 test samples", "ticket", "random"),
        ),
        (
            "moving",
            ACCURATE | {"steps": 100, "matched": "", "sparsity": 0.9},
            [{"rule": r, "step": s, "validation_value": v} for r in ("rigl", "dense")
             for s, v in ((0, 0.1), (50, 0.9), (100, 0.95))],
            "", ("step of the training", "accuracy on validation samples", "rigl", "dense"),
        ),
        (
            "kernels",
            {"rows": 64, "cols": 32, "batch": 8, "cache": "hot"},
            [{"kernel": k, "sparsity": s, "speedup_vs_dense": 2.0} for k in ("csr", "ell")
             for s in (0.8, 0.9)],
            "rows 64, cols 32, batch 8, hot",
            ("sparsity of the mask", "times as fast as dense", "csr", "ell"),
        ),
        (
            "latency",
            {"batch": 1, "recipe": "magnitude"},
            [{"layer": n, "kernel": k, "speedup": 2.0}
             for n, k in (("fc1.weight", "csr"), ("fc2.weight", "ell"))],
            "batch 1", ("times as fast as dense", "fc1.weight", "fc2.weight"),
        ),
    ],
)  # fmt: skip
def test_the_other_kinds_have_charts_too(kind, common, rows, heading, said):
    made = [row_from_dict(kind, FLAT | common | row) for row in rows]
    ((found, svg),) = pictures(kind, made)
    assert found == heading
    assert all(f">{words}" in svg for words in said)
    assert ">10%" not in svg or kind != "moving"  # the steep beginning is left out


@pytest.mark.parametrize("kind", ["sweep", "curve"])
def test_the_notebook_measures_the_same_points(store, kind, capsys):
    run, plan, rows = parts(store, kind)
    found = nbformat.reads(notebook(run, plan, rows), as_version=4)
    nbformat.validate(found)
    assert found.cells[0].source.startswith(f"# {run.title}")
    names: dict = {}
    for cell in found.cells[1:]:
        exec(cell.source, names)
    assert "0.0 is the largest difference" in capsys.readouterr().out
    assert [r.point_id for r in names["rows"]] == [row.point_id for row in rows]
    assert [r.value for r in names["rows"]] == [row.value for row in rows]


def test_the_command_writes_either(store, tmp_path, capsys):
    run, _, rows = parts(store, "curve")
    where = ["--store", str(store.folder)]
    for name in ("report.html", "report.ipynb"):
        assert main(["report", run.id[:8], "--out", str(tmp_path / name), *where]) == 0
        assert capsys.readouterr().out == f"{len(rows)} rows -> {tmp_path / name}\n"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "report.ipynb").read_text())["nbformat"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "--out", "report.pdf"], "use .html or .ipynb"),
        (["{run}", "--out", "absent/report.html"], "cannot be written"),
        (["ffffffff", "--out", "report.html"], "unknown run"),
    ],
)
def test_bad_input_is_one_line_and_2(store, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    run = parts(store, "curve")[0]
    given = [word.format(run=run.id) for word in arguments]
    assert main(["report", *given, "--store", str(store.folder)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
