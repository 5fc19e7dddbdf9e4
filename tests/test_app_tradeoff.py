"""The Trade-off page: recipes laid over each other, run, read, taken along."""

from dataclasses import replace
from itertools import combinations

import pytest
from safetensors.torch import load

from app import cache
from app.curve_words import curve_command
from app.noise_floor import floor_of
from app.tuning_job import TuningJob, jobs
from app.tuning_view import loss_chart, table_of, value_chart
from sparsity_core.behaviour import unpacked
from sparsity_core.curve import CurvePlan
from sparsity_core.recipe import Recipe, Training
from sparsity_core.task import load_task
from sparsity_core.tickets.plan import plan_tickets
from tests.app_session import open_page, own_store, texts, wait_for_jobs

__all__ = ["own_store"]

SMALL = {"model": "digits-mlp", "curve-levels": ["50", "90"], "curve-epochs": "0"}


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


def test_a_link_opens_the_view_and_computes_nothing(own_store):
    link = SMALL | {"curve-scorer": ["taylor"], "curve-random": "true", "curve-epochs": "2"}
    app = open_page("tradeoff", **link)
    assert not app.exception
    assert any("3 recipes will be compared, each as pruned" in e.label for e in app.expander)
    assert app.button(key="start").label.startswith("Run 12 new points (0 stored, about")
    assert cache.queue().jobs() == []
    assert cache.store().runs() == []


def test_the_first_screen_is_a_finished_example(own_store):
    app = open_page("tradeoff")
    assert not app.exception
    shipped = cache.entry("digits-lenet").curve()
    assert f"`{shipped['command']}` made this one" in texts(app)
    assert len(app.get("vega_lite_chart")) == 1
    assert "No point of this comparison" in open_page("tradeoff", model="digits-mlp").info[0].value


def test_a_run_fills_the_page_and_is_there_when_it_is_opened_again(own_store):
    link = SMALL | {"curve-structure": ["2:4"], "curve-epochs": "1"}
    app = open_page("tradeoff", **link)
    app.button(key="start").click().run()
    wait_for_jobs()
    app = open_page("tradeoff", **link)
    assert not app.exception
    assert app.button(key="start").disabled
    assert app.button(key="start").label == "All 8 points are stored"
    (run,) = cache.store().runs()
    plan = cache.store().plan(run.id)
    rows = cache.store().rows(plan)
    task = load_task("digits-mlp")
    again = [replace(row, seconds=0) for row in plan.run(task, plan.points())]
    assert [replace(row, seconds=0) for row in rows] == again
    means = app.dataframe[0].value
    sound = [row for row in rows if row.status == "ok"]
    assert list(means["accuracy (%)"]) == pytest.approx([100 * row.value for row in sound])
    assert list(means["achieved (%)"]) == pytest.approx([100 * r.achieved_sparsity for r in sound])
    recipe = next(recipe for recipe in plan.recipes if recipe.training)
    tuned = next(r for r in rows if r.recipe == recipe.at(max(plan.sparsities)).digest)
    curve = next(box for box in app.selectbox if box.label == "Curve")
    app = curve.select(next(o for o in curve.options if "fine-tuned" in o)).run()
    (flips,) = [f.value for f in app.dataframe if "changed (%)" in f.value]
    kinds = [tuned.lost, tuned.gained, tuned.other_errors]
    shares = [100 * n / tuned.samples for n in (sum(kinds), *kinds)]
    assert flips.to_numpy().tolist() == [["this point", *map(pytest.approx, shares)]]
    assert "No noise floor" in texts(app)
    for view in ("Classes", "Calibration"):
        app.segmented_control(key="curve-behaviour").set_value(view)
        app = app.run()
        assert not app.exception
    assert f"{tuned.calibration_error:.2%}" in texts(app)
    assert any("2 skipped" in expander.label for expander in app.expander)
    assert "a count, not a speed" in texts(app)
    assert curve_command(plan) in [code.value for code in app.code]


def test_the_noise_floor_is_that_of_the_shipped_dense_networks(own_store):
    floor = floor_of("digits-lenet")
    found = cache.entry("digits-lenet").tickets()
    dense = [
        unpacked(r["predictions"]) for r in found["rows"] if (r["arm"], r["round"]) == ("ticket", 0)
    ]
    assert len(dense) == 3
    changed = sorted(float((a != b).double().mean()) for a, b in combinations(dense, 2))
    assert sorted(pair.changed for pair in floor.pairs) == pytest.approx(changed)
    assert floor.source == f"the shipped ticket experiment ({len(dense[0])} test samples)"


def test_the_noise_floor_of_another_model_is_that_of_dense_networks_trained_here(own_store, task):
    assert not floor_of("digits-mlp").pairs
    for seeds, name in ((range(1), "one seed: no pair"), (range(3), "three")):
        plan = plan_tickets(task, training=Training(steps=5), rounds=0, seeds=seeds, device="cpu")
        rows = list(plan.run(task, plan.points()))
        cache.store().add(plan.kind, rows)
        cache.store().save_run(plan, "done")
        floor = floor_of("digits-mlp")
        assert len(floor.pairs) == len(rows) * (len(rows) - 1) // 2, name
    one, other, _ = (unpacked(row.predictions) for row in rows)
    assert floor.pairs[0].changed == pytest.approx(float((one != other).double().mean()))
    assert floor.source == f"the ticket run {plan.digest[:8]} (360 test samples)"


def test_zeroed_channels_are_not_called_removed(own_store):
    app = open_page("tradeoff", structure="out-channel", **SMALL)
    app.button(key="start").click().run()
    wait_for_jobs()
    assert "zeroed channels are not yet removed ones" in texts(app.run())


def test_sensitivity_goes_by_the_sweep_of_each_recipe_or_says_what_is_missing(own_store):
    link = {"model": "digits-lenet", "allocation": "sensitivity", "curve-levels": ["50"]}
    app = open_page("tradeoff", **link, **{"curve-scorer": ["taylor"]})
    assert not app.error
    shipped = [caption.value for caption in app.caption if "sensitivity goes by" in caption.value]
    assert len(shipped) == 1
    assert "shipped with this version: " in shipped[0]
    app.button(key="start").click().run()
    (job,) = cache.queue().jobs()
    job.cancel()
    assert isinstance(job.plan, CurvePlan)
    curves_of = [recipe.allocation.curves for recipe in job.plan.recipes]
    assert all(curves_of)
    assert curves_of[0] != curves_of[1]
    app = open_page("tradeoff", **link, **{"curve-scorer": ["wanda"]})
    assert "no sweep of single layers with wanda and unstructured is stored" in app.error[0].value
    app = open_page("masks", **link, scorer="wanda")
    assert "no sweep of single layers with wanda and unstructured is stored" in app.error[0].value


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"curve-levels": [""]}, "no sparsities chosen; choose at least one"),
        ({"curve-levels": ["-5"]}, "out of range"),
        ({"curve-levels": ["150"]}, "is out of range|is more than 1"),
        ({"curve-levels": ["half"]}, "is not a number"),
        ({"curve-structure": ["9:4"]}, "9:4: n:m needs"),
        ({"curve-structure": ["blok"]}, "did you mean 'block'"),
    ],
)
def test_bad_choices_are_one_line(own_store, link, said):
    app = open_page("tradeoff", model="digits-mlp", **link)
    assert not app.exception
    (error,) = app.error
    assert any(part in error.value for part in said.split("|")), error.value
    assert "\n" not in error.value


def test_a_store_that_cannot_be_opened_is_said_in_one_line(own_store):
    broken = own_store / "results.sqlite"
    broken.write_text("this is no database, only some text" * 100)
    app = open_page("tradeoff", **SMALL)
    broken.unlink()
    assert not app.exception
    assert "results.sqlite: this is no store: move the file away" in app.error[0].value


def test_curves_come_raw_recalibrated_and_fine_tuned_unless_told_otherwise(own_store):
    link = {"model": "digits-resnet", "curve-levels": ["50"]}
    app = open_page("tradeoff", **link)
    assert not app.exception
    assert app.button(key="start").label.startswith("Run 4 new points")
    assert "mended by batch-norm" in texts(app)
    raw = open_page("tradeoff", **link, **{"curve-epochs": "0", "curve-recalibrated": "false"})
    assert raw.button(key="start").label.startswith("Run 1 new point (")
    without = open_page("tradeoff", model="digits-mlp", **{"curve-levels": ["50"]})
    assert without.button(key="start").label.startswith("Run 2 new points")


def test_one_recipe_is_fine_tuned_step_by_step_and_the_best_is_kept(own_store):
    app = open_page("tradeoff", **SMALL)
    app.number_input(key="tuning-steps").set_value(20).run()
    assert app.button(key="tune").label.startswith("Fine-tune (at most about")
    app.button(key="tune").click().run()
    (job,) = jobs().values()
    assert job.ended.wait(60)
    app.run()
    assert not app.exception
    assert [step.step for step in job.steps] == list(range(21))
    assert f"**{job.best.value:.2%}** at step {job.best.step}" in texts(app)
    assert app.button(key="tune").label.startswith("Fine-tune again")
    state = load(job.best_file())
    assert (state["fc1.weight"] == 0).double().mean() == pytest.approx(0.9, abs=1e-3)
    table = table_of(job)
    assert table["loss"].notna().sum() == 20
    assert list(table[table["value"].notna()]["step"]) == [0, 10, 20]
    assert len(loss_chart(table, "nats").to_dict()["layer"]) == 2
    assert value_chart(table, "accuracy").to_dict()["mark"]["type"] == "line"
    jobs().clear()


def test_a_fine_tune_stops_at_a_word(task):
    job = TuningJob(
        "digits-mlp", task, Recipe(0.5, training=Training(steps=10**6)), 10**6, None, "cpu"
    )
    job.start()
    job.stop()
    assert job.ended.wait(60)
    assert len(job.steps) < 10**6
    assert job.best is not None


def test_a_fine_tune_that_fails_says_so(task):
    job = TuningJob("digits-mlp", task, Recipe(0.5), 1, None, "cpu")
    job.start()
    assert job.ended.wait(60)
    assert "has no training" in job.error
