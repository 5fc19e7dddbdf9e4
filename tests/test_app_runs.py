"""The Runs page: find, open, compare, take along, resume; delete on purpose."""

import sqlite3
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app import cache
from app.run_charts import scatter
from app.run_table import compared, differing, found, rows_table, table_of
from sparsity_core.cli import main
from sparsity_core.curve import plan_curve
from sparsity_core.errors import SparsityError
from sparsity_core.jobs import JobView
from sparsity_core.recipe import Recipe
from sparsity_core.store import RunInfo, Store
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task
from tests.app_session import open_page, own_store, texts, wait_for_jobs

__all__ = ["own_store"]

FEW = {"sparsities": [0.5, 0.9], "samples": 60, "device": "cpu"}


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


def stored(folder, plan, task, state="done", points=None):
    """A run in the store, with its first `points` measured."""
    store = Store(folder)
    store.save_run(plan, state)
    store.add(plan.kind, list(plan.run(task, plan.points()[:points])))
    return plan


def info(**changes):
    usual = RunInfo(
        "0123456789abcdef", "sweep", "m: title", "m", 0.0, "done", "", 2, {"ok": 1, "failed": 1}
    )
    return replace(usual, **changes)


def test_search_wants_every_word_somewhere():
    runs = [
        info(title="digits-mlp: sensitivity, magnitude", model="digits-mlp"),
        info(title="digits-vit: sensitivity, taylor", model="digits-vit", state="interrupted"),
    ]
    assert found(runs, "") == runs
    assert found(runs, "TAYLOR vit") == [runs[1]]
    assert found(runs, "interrupted") == [runs[1]]
    assert found(runs, "magnitude taylor") == []
    assert found(runs, "01234567") == runs


def test_the_table_counts_points_by_status():
    (row,) = table_of([info()]).to_dict("records")
    assert (row["stored"], row["ok"], row["failed"], row["skipped"]) == ("2 of 2", 1, 1, 0)
    assert (row["run"], row["what"], row["state"]) == ("01234567", "title", "done")


def test_an_empty_store_says_what_to_do(own_store):
    app = open_page("runs")
    assert not app.exception
    assert "Nothing was computed yet" in app.info[0].value
    assert str(own_store / "results.sqlite") in texts(app)


def test_a_run_is_found_and_opened_by_its_link(own_store, task):
    sweep = stored(own_store, plan_sweep(task, **FEW), task)
    curve = stored(own_store, plan_curve(task, recipes=[Recipe()], **FEW), task)
    app = open_page("runs", run=sweep.digest[:8])
    assert not app.exception
    assert set(app.dataframe[0].value["run"]) == {sweep.digest[:8], curve.digest[:8]}
    assert sweep.title in texts(app)
    assert "**done**: 6 of 6 points stored (6 ok)" in texts(app)
    shown = next(d.value for d in app.dataframe if "point_id" in d.value)
    assert list(shown["point_id"]) == [point.id for point in sweep.points()]
    app.text_input(key="runs-search").set_value("curve").run()
    assert list(app.dataframe[0].value["run"]) == [curve.digest[:8]]
    app.multiselect(key="run").set_value([curve.digest]).run()
    assert not app.exception
    numbers = next(d.value for d in app.dataframe if "accuracy (%)" in d.value)
    assert "std. dev. over seeds" not in numbers  # one seed has none


def test_a_link_to_a_run_that_is_not_here_says_so(own_store, task):
    stored(own_store, plan_sweep(task, **FEW), task)
    app = open_page("runs", run="ffffffff")
    assert not app.exception
    assert "run ffffffff, which this store does not have" in app.warning[0].value


def test_the_file_is_that_of_the_command(own_store, task, tmp_path):
    plan = plan_sweep(task, structures=["unstructured", "2:4"], **FEW)
    stored(own_store, plan, task)
    out = tmp_path / "rows.csv"
    assert main(["runs", plan.digest[:8], "--out", str(out), "--store", str(own_store)]) == 0
    assert rows_table(Store(own_store).rows(plan)).to_csv(index=False) == out.read_text()
    assert ".0," not in out.read_text().split("samples")[0]


def test_two_runs_stand_side_by_side_with_their_difference(own_store, task):
    a = stored(own_store, plan_sweep(task, **FEW), task)
    b = stored(own_store, plan_sweep(task, scorers=["random"], **FEW | {"sparsities": [0.9]}), task)
    rows_a, rows_b = (Store(own_store).rows(plan) for plan in (a, b))
    joined = compared("sweep", rows_table(rows_a), rows_table(rows_b)).set_index("layer")
    assert len(joined) == 3
    for row in rows_b:
        other = next(r for r in rows_a if (r.layer, r.sparsity) == (row.layer, 0.9))
        assert joined.loc[row.layer, "value A"] == other.value
        assert joined.loc[row.layer, "value B"] == row.value
        assert joined.loc[row.layer, "B - A"] == pytest.approx(row.value - other.value)
    assert set(joined["scorer A"]) == {"magnitude"}
    assert differing("sweep", rows_table(rows_a), rows_table(rows_b)) == [
        "scorer: A magnitude; B random",
        "sparsity: A 0.5, 0.9; B 0.9",
    ]
    app = open_page("runs", run=[a.digest[:8], b.digest[:8]])
    assert not app.exception
    table = next(d.value for d in app.dataframe if "B - A (points)" in d.value)
    order = list(app.multiselect(key="run").value)
    sign = 1 if order == [a.digest, b.digest] else -1
    mean = 100 * joined["B - A"].mean()
    assert table["B - A (points)"].mean() == pytest.approx(sign * mean)
    assert "3 points in both, 3 measured in both" in texts(app)


def test_a_point_without_a_number_has_no_difference():
    a = pd.DataFrame([row(value=0.9), row(sparsity=0.8, value=None, status="skipped")])
    b = pd.DataFrame([row(value=0.7), row(sparsity=0.8, value=0.5)])
    joined = compared("sweep", a, b)
    assert joined["B - A"].tolist()[0] == pytest.approx(-0.2)
    assert joined["B - A"].isna().tolist() == [False, True]
    assert joined["status A"].tolist() == ["ok", "skipped"]
    drawn = scatter(joined, "sparsity", "accuracy").to_dict()["datasets"]
    assert max(map(len, drawn.values())) == 2  # the line's two ends; one point


def row(**changes):
    usual = {"model": "m", "layer": "fc", "scorer": "magnitude", "structure": "unstructured"}
    usual |= {"sparsity": 0.5, "seed": 0, "value": 0.9, "drop": 0.0}
    usual |= {"drop_low": 0.0, "drop_high": 0.0, "status": "ok"}
    usual |= {"metric": "accuracy", "samples": 9, "split": "test"}
    return usual | changes


def test_runs_without_a_common_point_are_refused_in_one_line():
    a, b = pd.DataFrame([row()]), pd.DataFrame([row(layer="conv"), row(sparsity=0.9)])
    with pytest.raises(SparsityError, match="share no point"):
        compared("sweep", pd.DataFrame([row(), row(layer="conv", sparsity=0.9)]), b)
    with pytest.raises(SparsityError, match="no stored point"):
        compared("sweep", a, pd.DataFrame())
    others = [pd.DataFrame([row(layer=name) for name in names]) for names in ("ab", "cd")]
    with pytest.raises(SparsityError, match="share no layer"):  # not each with each of the other
        compared("sweep", *others)


def test_a_sweep_and_a_curve_are_not_compared(own_store, task):
    a = stored(own_store, plan_sweep(task, **FEW), task)
    b = stored(own_store, plan_curve(task, recipes=[Recipe()], **FEW), task)
    app = open_page("runs", run=[a.digest[:8], b.digest[:8]])
    assert not app.exception
    assert "no points in common" in app.warning[0].value


def test_an_interrupted_run_is_resumed_and_only_the_rest_runs(own_store, task):
    plan = stored(own_store, plan_sweep(task, **FEW), task, state="running", points=4)
    with sqlite3.connect(own_store / "results.sqlite") as db:
        db.execute("UPDATE runs SET owner='[1, 0.0]'")  # a process that is long dead
    db.close()
    before = {row.point_id: row for row in Store(own_store).rows(plan)}
    app = open_page("runs", run=plan.digest[:8])
    assert "**interrupted**: 4 of 6 points stored" in texts(app)
    resume = app.button(key=f"resume {plan.digest}")
    assert resume.label == "Resume 2 points"
    resume.click().run()
    wait_for_jobs()
    app.run()
    assert "**done**: 6 of 6 points stored" in texts(app)
    after = Store(own_store).rows(plan)
    assert {row.point_id: row for row in after if row.point_id in before} == before
    assert [row.value for row in after] == [r.value for r in plan.run(task, plan.points())]


def test_deleting_takes_two_steps_and_says_how_much_goes(own_store, task):
    small = stored(own_store, plan_sweep(task, layers=["fc1"], **FEW), task)
    large = stored(own_store, plan_sweep(task, **FEW), task)
    app = open_page("runs", run=large.digest[:8])
    assert not [b for b in app.button if b.key and b.key.startswith("delete")]
    app.toggle(key=f"wish {large.digest}").set_value(True).run()
    assert "4 stored points go for good; 2 stay, because other runs have them" in texts(app)
    assert app.button(key=f"delete {large.digest}").disabled
    app.text_input(key=f"typed {large.digest}").set_value("yes").run()
    assert app.button(key=f"delete {large.digest}").disabled
    assert len(Store(own_store).runs()) == 2
    app.text_input(key=f"typed {large.digest}").set_value(large.digest[:8]).run()
    app.button(key=f"delete {large.digest}").click().run()
    assert not app.exception
    assert [run.id for run in Store(own_store).runs()] == [small.digest]
    assert len(Store(own_store).rows(large)) == 2
    assert len(Store(own_store).rows(small)) == 2
    assert app.multiselect(key="run").value == []


def test_a_run_under_way_is_not_deleted(own_store, task):
    plan = stored(own_store, plan_sweep(task, **FEW), task, state="running", points=1)
    app = open_page("runs", run=plan.digest[:8])
    assert "cancel it first" in texts(app)
    assert not app.toggle
    assert not [b for b in app.button if b.key and b.key.startswith("resume")]


def test_a_job_that_cannot_save_its_work_says_so_wherever_it_is_seen(monkeypatch):
    token = f"upload:{'0' * 32}"  # of another tab: what it is called is nobody else's to know
    view = JobView(
        "0123456789abcdef", token, "running", 2, 1, 0, None, False, "", "disk: free space"
    )

    job = SimpleNamespace(id=view.id, view=view, under_way=(), cancel=lambda: None)
    queue = SimpleNamespace(get=lambda _: job, jobs=lambda: [job])
    monkeypatch.setattr(cache, "queue", lambda: queue)

    def runs():
        from app.run_list import draw_running

        draw_running()

    def live():
        from types import SimpleNamespace

        from app.live import follow

        follow(SimpleNamespace(digest="0123456789abcdef"), lambda: None)

    def elsewhere():
        from app.live import _mention

        _mention("0123456789abcdef")

    app = AppTest.from_function(elsewhere, default_timeout=60).run()
    assert "an upload, gone or of another tab" in app.caption[0].value
    for script in (runs, live):
        app = AppTest.from_function(script, default_timeout=60).run()
        assert not app.exception
        assert token not in str(app)
        (told,) = app.warning
        assert told.value == "Progress is not being saved: disk: free space."
