"""Pages with a model whose metric is no share: its own number and direction, or why not."""

import re
from dataclasses import replace

import altair as alt
import pytest
from streamlit.testing.v1 import AppTest

from app import cache, uploads
from app.scorer_dots import BEATS, NO_BETTER, dots
from app.scorer_trial import table_of
from sparsity_core.check import Requirements, check
from sparsity_core.cli.table import print_rows
from sparsity_core.curve import plan_curve
from sparsity_core.executors import InProcess
from sparsity_core.export.pruned import carry_out
from sparsity_core.intervals import NO_INTERVAL
from sparsity_core.jobs import Job
from sparsity_core.quarantine import Admitted
from sparsity_core.recipe import Recipe
from sparsity_core.report.page import page as report
from sparsity_core.sweep.choice import sparsest_within
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task
from sparsity_core.units import unit_of
from tests.app_session import MAIN, own_store, texts, wait_for_jobs

__all__ = ["own_store"]

MODEL = """
import torch
from torch import nn
from sparsity_core.task import task_of

def make():
    torch.manual_seed(0)
    inputs = torch.randn(90, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    return task_of(model, (inputs, model(inputs).detach() + 3), metric="mse")
"""
REFERENCE = "lines_of_mine:make"


@pytest.fixture
def task(tmp_path, monkeypatch):
    (tmp_path / "lines_of_mine.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    return load_task(REFERENCE)


@pytest.fixture
def app(own_store, task, monkeypatch):
    """The app in a tab that has opened the model."""
    # AppTest asks for labels between runs, where there is no tab to know them.
    monkeypatch.setattr(uploads, "label_of", str)
    for source in ("allocation_source", "scorer_source"):  # a busy machine must not show a wait
        monkeypatch.setattr(f"app.{source}.PATIENCE", 60)
    found = AppTest.from_file(str(MAIN), default_timeout=60)
    found.session_state["own models"] = {REFERENCE: Admitted(REFERENCE, REFERENCE, task.notes)}
    found.session_state["model"] = REFERENCE
    found.session_state["sparsity"] = 90
    return found


def at(app, page):
    app.switch_page(f"../pages/{page}.py").run()
    assert not app.exception
    assert not app.error
    return texts(app)


def test_every_page_draws_it_or_says_why_not(app, task):
    assert "the first sweep measures its mse" in at(app, "model")
    assert "Early answers need a share of right answers; mse is none" in at(app, "sensitivity")
    plan = plan_sweep(task, sparsities=[0.5, 0.7, 0.9])
    cache.store().save_run(plan, "done")
    cache.store().add(plan.kind, list(plan.run(task, plan.points())))
    for page in ("tradeoff", "masks", "kernels", "export", "runs"):
        at(app, page)
    for page, command in (("tickets", "sparsity tickets"), ("moving", "sparsity train")):
        said = at(app, page)
        assert f"mse is no share. `{command} MODEL` measures it in its own number" in said
        assert "A finished example" in said
    at(app, "allocation")
    app.button(key="verify").click().run()
    wait_for_jobs()
    app.run()
    assert not app.exception
    assert re.search(r"Measured [+-][\d.]+ squared error \(paired 95 %", texts(app))
    assert re.search(r"mse gets worse by [+-][\d.]+, 36 validation samples", texts(app))
    at(app, "scorers")
    app.button(key="start trial").click().run()
    wait_for_jobs()
    app.run()
    assert not app.exception
    assert any({"mse", "best of chance"} <= set(table.value) for table in app.dataframe)


def test_a_scorer_beats_chance_where_lower_is_better(task):
    plan = plan_curve(task, recipes=[Recipe(0.5)], sparsities=[0.5])
    blank = plan.unmeasured(plan.points()[0], "ok", "")

    def row(scorer, value, high):
        return replace(
            blank, scorer=scorer, value=value, dense_value=9.0, drop=value - 9,
            drop_low=2 * value - high - 9, drop_high=high - 9,
        )  # fmt: skip

    rows = [row("random", 14, 15), row("random", 12, 13), row("magnitude", 10, 11),
            row("wanda", 13, 13.5)]  # fmt: skip
    table = table_of(rows).set_index("scorer")
    assert list(table.loc["magnitude", ["value", "low", "high", "bar"]]) == [10, 9, 11, 12]
    assert table.loc["magnitude", "verdict"] == BEATS
    assert table.loc["wanda", "verdict"] == NO_BETTER
    chart = dots(table_of(rows), "mse", unit_of("mse"))
    assert isinstance(chart, alt.LayerChart)
    assert '"dense 9"' in chart.to_json()


def test_a_check_fails_where_a_lower_number_was_better_and_it_rose(task):
    pruned = carry_out(task, Recipe(0.9), device="cpu")
    drop = pruned.comparison.drop
    assert drop == pytest.approx(pruned.comparison.value - pruned.comparison.dense_value)
    assert drop > 0
    (met,) = check(pruned, Requirements(max_drop=drop + 1e-6))
    (missed,) = check(pruned, Requirements(max_drop=drop - 1e-6))
    assert (met.met, missed.met) == (True, False)
    assert "points" not in met.measured
    assert f"{pruned.comparison.dense_value:.4g} dense" in met.measured


def test_one_sample_is_a_row_and_every_view_says_that_it_has_no_interval(task, own_store, capsys):
    one = {"sparsities": [0.5, 0.9], "samples": 1, "device": "cpu"}
    plan, curve = plan_sweep(task, **one), plan_curve(task, recipes=[Recipe(0.5)], **one)
    slow = plan_sweep(task, **one, engine="reference")
    for each in (plan, curve, slow):
        job = Job(each, cache.store())
        job.run(InProcess(task))
        assert (job.view.state, job.view.failed) == ("done", 0)
        rows = cache.store().rows(each)
        assert {(row.status, row.samples) for row in rows} == {("ok", 1)}
        assert all(row.drop is not None and row.loss_rise is not None for row in rows)
        names = ("drop_low", "drop_high", "loss_rise_low", "loss_rise_high")
        assert {getattr(row, name) for row in rows for name in names} == {None}
        print_rows(each.kind, rows)
        assert capsys.readouterr().out.count(NO_INTERVAL) == 1
        assert "<svg" in report(cache.store().run(each.digest), each, rows)
    (choice, _) = sparsest_within(cache.store().rows(plan), 1e9, cautious=True)
    assert (choice.row, choice.message) == (None, f"{NO_INTERVAL} at 50 %")
    assert len(sparsest_within(cache.store().rows(plan), 1e9)[0].row.layer)
    assert dots(table_of(cache.store().rows(curve)), "mse", unit_of("mse")).to_json()

    def script():
        from app import cache
        from app.sensitivity_view import draw_results
        from app.tradeoff_view import draw_curves

        for run in cache.store().runs():
            plan = cache.store().plan(run.id)
            draw = draw_curves if plan.kind == "curve" else draw_results
            if plan.kind == "curve" or plan.engine == "reference":
                draw(plan, cache.store().rows(plan))

    app = AppTest.from_function(script, default_timeout=60).run()
    assert not app.exception
    assert texts(app).count(NO_INTERVAL) == 2


def test_a_check_that_asks_for_an_interval_is_not_met_by_one_sample(task):
    few = replace(task, test=task.test.take([0]))
    pruned = carry_out(few, Recipe(0.5), device="cpu")
    for confident in (False, True):
        (found,) = check(pruned, Requirements(max_drop=1e9, confident=confident))
        assert found.met is not confident
        assert NO_INTERVAL in found.measured


def test_an_export_is_told_in_the_metrics_number():
    def script():
        from app.export_view import _draw_worth
        from sparsity_core.recipe import Recipe

        dense = {"parameters": 9}
        card = {"metric": "perplexity", "value": 12.5, "dense_value": 10.25, "drop": 2.25}
        card |= {"drop_low": 2.0, "drop_high": 2.5, "samples": 30, "split": "test"}
        card |= {"dense": dense, "pruned": {"sparsity": 0.5}, "recipe": Recipe(0.5).to_dict()}
        _draw_worth(card)

    app = AppTest.from_function(script).run()
    assert not app.exception
    assert (app.metric[0].value, app.metric[0].delta) == ("12.5", "+2.25")
    told = "10.25 dense; of the drop, where + is worse, paired 95 % interval +2 to +2.5"
    assert told in app.caption[0].value
