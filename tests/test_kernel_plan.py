"""Plans of kernels and of whole models: points, rows, the store, another machine; the command."""

import dataclasses
import json
import math

import pandas as pd
import pytest
import torch
from torch import nn

from sparsity_core.cli import main
from sparsity_core.errors import SparsityError
from sparsity_core.executors import InProcess
from sparsity_core.jobs import submit
from sparsity_core.kernels import latency, plan
from sparsity_core.kernels.before_after import before_after
from sparsity_core.kernels.bench import MATRIX
from sparsity_core.kernels.choice import DENSE, LayerChoice
from sparsity_core.kernels.gap import explain
from sparsity_core.kernels.latency import LatencyPlan, plan_latency
from sparsity_core.kernels.latency_row import WHOLE
from sparsity_core.kernels.plan import KernelPlan, plan_kernels
from sparsity_core.kernels.rivals import rivals
from sparsity_core.kernels.row import COLUMNS
from sparsity_core.plans import plan_from_dict
from sparsity_core.recipe import Recipe
from sparsity_core.store import Store
from sparsity_core.task import load_task

QUICK = {"shapes": [(8, 32)], "sparsities": [0.5, 0.9], "batches": [1], "repeats": 1}


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


def test_points_are_kernels_in_settings_and_one_setting_is_one_group():
    made = plan_kernels(**QUICK | {"batches": [2, 1], "kernels": ["tiled"], "caches": ["cold"]})
    points = made.points()
    assert made.kernels == ("dense", "dense-transposed", "dense-onednn", "csr", "tiled")
    assert len({point.id for point in points}) == len(points) == 2 * 2 * 5
    assert [(p.race.sparsity, p.race.batch, p.kernel) for p in points[::5]] == [
        (0.5, 1, "dense"),
        (0.5, 2, "dense"),
        (0.9, 1, "dense"),
        (0.9, 2, "dense"),
    ]
    assert [len(group) for group in made.groups(points)] == [5, 5, 5, 5]
    assert plan_kernels(**QUICK).kernels == MATRIX


def test_a_plan_is_plain_data_and_belongs_to_its_machine(monkeypatch):
    made = plan_kernels(**QUICK)
    again = plan_from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    assert isinstance(again, KernelPlan)
    made.check(None)
    monkeypatch.setattr(plan, "cpu_label", lambda: "another CPU")
    assert {p.id for p in plan_kernels(**QUICK).points()}.isdisjoint(p.id for p in made.points())
    with pytest.raises(SparsityError, match="planned for another machine"):
        made.check(None)


def test_a_job_stores_a_row_a_point_and_runs_only_what_is_missing(tmp_path):
    store = Store(tmp_path)
    made = plan_kernels(**QUICK | {"kernels": ["tiled", "blocks"], "shapes": [(6, 32)]})
    rows = list(made.run(None, made.points()[:3]))
    store.add(made.kind, rows)
    job = submit(made, store, InProcess())
    assert job.wait(60)
    assert (job.view.state, job.view.done, job.view.failed) == ("done", 12, 0)
    stored = store.rows(made)
    assert stored[:3] == rows
    assert [row.point_id for row in stored] == [point.id for point in made.points()]
    skipped = {row.kernel: row.message for row in stored if row.status == "skipped"}
    assert set(skipped) == {"blocks"}
    assert "multiple of 4 outputs" in skipped["blocks"]


def test_a_layer_of_a_model_is_timed_with_its_own_weights(task):
    made = plan_kernels(task, "fc1.weight", **QUICK | {"kernels": ["tiled"]})
    assert made.shapes == (tuple(task.model.fc1.weight.shape),)
    work = made.workload(task, made.shapes[0])
    assert torch.equal(work.weight, task.model.fc1.weight)
    (row,) = made.run(task, made.points()[-1:])
    assert (row.model, row.layer, row.kernel, row.status) == (
        *("digits-mlp", "fc1.weight", "tiled"),
        "ok",
    )
    with pytest.raises(SparsityError, match="unknown layer"):
        plan_kernels(task, "fc9", **QUICK)
    other = dataclasses.replace(made, model_digest="0" * 16)
    with pytest.raises(SparsityError, match="has changed"):
        other.check(task)


def test_wrong_plans_name_the_remedy():
    for wrong, words in (
        ({"sparsities": []}, "no sparsities chosen"),
        ({"kernels": ["permut"]}, "did you mean 'permute'"),
        ({"batches": [0]}, "1 or more"),
        ({"caches": ["warm"]}, "hot or cold"),
        ({"shapes": [(0, 4)]}, "1 output"),
        ({"sparsities": [90.0]}, r"write 0\.9"),
    ):
        with pytest.raises(SparsityError, match=words):
            plan_kernels(**QUICK | wrong)


def test_trouble_is_a_row(monkeypatch):
    made = plan_kernels(**QUICK | {"kernels": ["tiled"]})

    def broken(*_):
        raise MemoryError("no memory")

    monkeypatch.setattr(plan, "measure", broken)
    rows = list(made.run(None, made.points()))
    assert {row.status for row in rows} == {"failed"}
    assert len(rows) == len(made.points())
    assert "no memory" in rows[0].message


def test_the_command_writes_the_promised_columns_and_says_it_in_words(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path / "store"))
    given = ["kernels", "--sparsities", ".9", "--batches", "1", "--repeats", "1"]
    shape = [*given, "--shape", "8x32", "--formats", "all"]
    assert main([*shape, "--out", str(tmp_path / "rows.csv")]) == 0
    said = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "rows.csv")
    assert list(table.columns) == list(COLUMNS)
    assert list(table["kernel"]) == list(MATRIX)
    assert "the same dense timed twice differs by" in said
    assert said.splitlines()[-1].startswith("At 90 % ")
    assert said.splitlines()[-1].endswith("2:4 needs a GPU.")
    # The stored rows again, with all columns, and as the list of runs shows them.
    assert main([*shape, "--details", "--out", str(tmp_path / "all.parquet")]) == 0
    more = pd.read_parquet(tmp_path / "all.parquet")
    assert list(more["p50"].dropna()) == list(table["p50"].dropna())
    assert {"noise", "limit", "energy", "message"} <= set(more.columns)
    run = Store().runs()[0].id
    assert main(["runs", run]) == 0
    assert "x dense" in capsys.readouterr().out
    layer = ["--model", "digits-mlp", "--layer", "last", "--formats", "ell", "--caches", "hot,cold"]
    assert main([*given, *layer, "--out", str(tmp_path / "layer.csv")]) == 0
    assert list(pd.read_csv(tmp_path / "layer.csv")["cache"].unique()) == ["hot", "cold"]
    assert main(["kernels", "--model", "digits-mlp"]) == 2
    assert main(["kernels", "--shape", "768"]) == 2
    assert "write outputs and inputs" in capsys.readouterr().err


def test_a_whole_model_before_and_after(task, tmp_path):
    made = plan_latency(task, Recipe(0.9, skip=("last",)), batches=[2])
    assert plan_from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert isinstance(plan_from_dict(made.to_dict()), LatencyPlan)
    rows = {row.layer: row for row in made.run(task, made.points())}
    assert list(rows) == [WHOLE, "fc1.weight", "fc2.weight", "fc3.weight"]
    whole = rows[WHOLE]
    assert whole.status == "ok"
    assert whole.dense_p50 > 0
    assert whole.p20 <= whole.p50 <= whole.p80
    assert whole.nonzeros < whole.weights
    assert whole.bytes == whole.dense_bytes - sum(
        row.dense_bytes - row.bytes for row in rows.values() if row.layer != WHOLE
    )
    assert rows["fc1.weight"].sparsity == pytest.approx(0.9, abs=0.01)
    assert rows["fc3.weight"].message == "stays dense: left out by the recipe"
    assert rows["fc3.weight"].p50 is None
    store = Store(tmp_path)
    store.add(made.kind, rows.values())
    assert store.rows(made) == list(rows.values())


def test_a_plan_for_another_machine_is_refused(task, monkeypatch):
    made = plan_latency(task, Recipe(0.9))
    made.check(task)
    monkeypatch.setattr(latency, "cpu_label", lambda: "another CPU")
    with pytest.raises(SparsityError, match="plan again"):
        made.check(task)
    with pytest.raises(SparsityError, match="1 or more"):
        plan_latency(task, Recipe(0.9), batches=[0])


def test_the_gap_in_words():
    def choice(kernel, refused=None, **seconds):
        return LayerChoice("w", kernel, {DENSE: 8e-6} | seconds, refused or {}, 600)

    assert explain(choice("tiled", tiled=2e-6), 10_000, 1_000, 100) == (
        "10.0x fewer multiply-adds, 4.0x less time: dense does 1.25 G of them a second, tiled "
        "0.5 G; 6.0 bytes a kept weight, not 4: places are stored too"
    )
    assert "tiled, takes 2.00 times as long" in explain(choice(DENSE, tiled=16e-6), 1, 1, 1)
    assert "not a clear gain" in explain(choice(DENSE, tiled=7.9e-6), 1, 1, 1)
    assert "no zeros are skipped" in explain(
        choice("dense-onednn", **{"dense-onednn": 4e-6}), 1, 1, 1
    )
    refused = LayerChoice("w", DENSE, {}, {DENSE: "is a Conv1d"}, 1)
    assert explain(refused, 1, 1, 1) == "stays dense: it is a Conv1d"


def test_what_is_not_to_be_had_is_said(monkeypatch):
    class Opaque(nn.Module):
        def forward(self, x):
            return x * len(x)

    def broken(*_):
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr("sparsity_core.kernels.rivals._compiled", broken)
    monkeypatch.setattr("sparsity_core.kernels.rivals.find_spec", lambda _: None)
    calls, absent = rivals(Opaque(), torch.ones(1), 1)
    assert calls == {}
    assert absent[0] == "compiled: no compiler here"
    assert "not installed" in absent[1]
    model = nn.Sequential(nn.Linear(8, 8))
    found = before_after(model, {"0.weight": torch.eye(8) > 0}, torch.ones(1, 8), others=True)
    assert "compiled: no compiler here" in found[WHOLE]["message"]
    assert math.isfinite(found[WHOLE]["speedup"])
