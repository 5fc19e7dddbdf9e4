"""Forecast and truth of allocations on their page: added up, measured for a click, paired."""

from dataclasses import replace

import pandas as pd
import pytest

from app import cache
from app.allocation_check import compared
from app.allocation_rules import Ruled
from app.allocation_source import Outcome, _outcome
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.cost import cost
from sparsity_core.curve import plan_curve
from sparsity_core.plans import row_from_dict
from sparsity_core.recipe import Recipe
from sparsity_core.sweep.forecast import curves, predicted_rise
from tests.app_session import open_page, own_store, texts, wait_for_jobs
from tests.test_app_allocation import MANUAL, _patience, metrics, panels, probe, task

__all__ = ["_patience", "own_store", "probe", "task"]


def shipped():
    """The finished sweep of single layers by magnitude."""
    rows = [
        row_from_dict("sweep", row) for row in cache.entry("digits-lenet").sensitivity()["rows"]
    ]
    return [row for row in rows if (row.scorer, row.structure) == ("magnitude", "unstructured")]


def button(app, label):
    (found,) = [one for one in app.button if one.label.startswith(label)]
    return found


def test_the_forecast_adds_up_the_shipped_sweep(own_store):
    app = open_page("allocation", sparsity="70")
    rows = shipped()
    at = {r.layer: r.achieved_sparsity for r in rows if r.sparsity == 0.7}
    found = predicted_rise(curves(rows), at)
    alone = sum(r.loss_rise for r in rows if r.sparsity == 0.7)
    assert found.total == pytest.approx(alone, abs=2e-3)
    assert metrics(app)["Forecast of the loss rise"] == f"{found.total:+.3f} nats"
    assert "shipped with this version: 4 layers, 6 levels, 1 seed, 360 validation" in texts(app)


def test_beyond_the_sweep_there_is_no_forecast(own_store):
    app = open_page("allocation", sparsity="97")
    assert metrics(app)["Forecast of the loss rise"] == "unknown"
    assert "is beyond the last level measured alone" in texts(app)


def test_without_a_sweep_one_click_makes_one_and_the_forecast_follows(own_store):
    app = open_page("allocation", model="digits-mlp", sparsity="50")
    assert "sensitivity" not in panels(app)
    assert metrics(app)["Forecast of the loss rise"] == "unknown"
    app.button(key="sweep").click().run()
    wait_for_jobs()
    app = open_page("allocation", model="digits-mlp", sparsity="50")
    assert not app.exception
    (run_,) = cache.store().runs()
    rows = cache.store().rows(cache.store().plan(run_.id))
    alone = sum(row.loss_rise for row in rows if row.sparsity == 0.5)
    assert metrics(app)["Forecast of the loss rise"] == f"{alone:+.3f} nats"
    assert "sensitivity" in panels(app)
    assert not [one for one in app.button if one.key == "sweep"]
    (code,) = [one.value for one in app.code if "predicted_rise" in one.value]
    assert f"Store().plan({run_.id!r})" in code


def test_the_truth_of_the_allocation_in_hand_for_one_click(own_store, task):
    link = {"allocation": "manual", "manual": MANUAL}
    app = open_page("allocation", **link)
    assert "Not measured yet" in texts(app)
    button(app, "This allocation: run 1").click().run()
    wait_for_jobs()
    app = open_page("allocation", **link)
    assert not app.exception
    (run_,) = cache.store().runs()
    plan = cache.store().plan(run_.id)
    (row,) = cache.store().rows(plan)
    (again,) = plan.run(task, plan.points())
    assert replace(row, seconds=0) == replace(again, seconds=0)
    said = f"Measured {row.loss_rise:+.3f} nats (paired 95 %: {row.loss_rise_low:+.3f} to"
    assert said in texts(app)
    assert "360 validation samples. The forecast of" in texts(app)


def test_all_rules_are_checked_at_several_targets(own_store):
    link = {"alloc-targets": ["50", "70"]}
    app = open_page("allocation", **link)
    button(app, "All rules: run 16").click().run()
    wait_for_jobs()
    app = open_page("allocation", **link)
    assert not app.exception
    assert "16 of 16 measured points have a forecast" in texts(app)
    assert "Rank correlation (Spearman)" in texts(app)


def test_forecast_and_truth_are_paired_by_recipe(task, probe):
    costs = {layer.name: layer for layer in cost(task.model, task.train.inputs[:1]).layers}
    known = curves(shipped())
    recipes = [Recipe(allocation=ALLOCATIONS.make(kind)) for kind in ("uniform", "erk")]
    plan = plan_curve(task, recipes=recipes, sparsities=[0.5, 0.97], samples=50, device="cpu")
    measured = list(plan.run(task, plan.points()))
    rules = []
    for recipe in recipes:
        for target in (0.5, 0.97):
            outcome = _outcome(probe, recipe.at(target), costs)
            name = f"{ALLOCATIONS.kind_of(recipe.allocation)} at {100 * target:g} %"
            rules.append(Ruled(name, outcome, predicted_rise(known, outcome.achieved)))
    table = compared([*rules, Ruled("not measured", Outcome(Recipe(0.1)), None)], measured)
    assert list(table["name"]) == [rule.name for rule in rules]
    assert list(table["measured"]) == [row.loss_rise for row in measured]
    assert table["forecast"][0] == pytest.approx(rules[0].forecast.total)
    assert pd.isna(table["forecast"][1])
    assert "beyond the last level" in table["message"][1]


def test_python_makes_the_forecast_on_screen(own_store, capsys):
    app = open_page("allocation", sparsity="70")
    (code,) = [one.value for one in app.code if "predicted_rise" in one.value]
    exec(code, {})
    total = float(capsys.readouterr().out.split()[0])
    assert metrics(app)["Forecast of the loss rise"] == f"{total:+.3f} nats"
