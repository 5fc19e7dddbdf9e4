"""The Sensitivity page: look before running, run, read the answer, take it along."""

import json
import shlex
import sqlite3
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from streamlit.testing.v1 import AppTest

from app import cache, sensitivity_view
from app.reproduce import sweep_command, sweep_python
from app.sensitivity_charts import all_layers, heatmap, one_layer
from app.sensitivity_table import frame_of
from app.sensitivity_words import in_a_sentence
from sparsity_core.cli.main import main
from sparsity_core.store import Store
from sparsity_core.sweep.choice import Choice, sparsest_within
from sparsity_core.task import catalog, load_task
from tests.app_session import open_page, own_store, texts, wait_for_jobs

__all__ = ["own_store"]


def start(app: AppTest) -> AppTest:
    app.button(key="start").click().run()
    wait_for_jobs()
    return app.run()


def plan_on(app: AppTest):
    """The plan that the page's form describes."""
    (run,) = cache.store().runs()
    return cache.store().plan(run.id)


@pytest.fixture
def finished(own_store) -> AppTest:
    """A page whose usual sweep of the smallest model has been run."""
    app = open_page("sensitivity", model="digits-mlp")
    app.number_input(key="sweep-samples digits-mlp validation").set_value(60)
    return start(app.run())


def test_a_link_opens_the_view_and_computes_nothing(own_store):
    app = open_page("sensitivity", structure="2:4", scorer="taylor")
    assert not app.exception
    assert "taylor · 2:4" in texts(app)
    assert cache.queue().jobs() == []
    assert cache.store().runs() == []
    assert "(0 stored, about" in app.button(key="start").label


def assert_example(app: AppTest) -> None:
    """Before a sweep the page shows one that ships, by the command that makes it."""
    shipped = catalog()["digits-lenet"].sensitivity()
    assert "A finished example" in [header.value for header in app.subheader]
    assert f"`{shipped['command']}` made this one" in texts(app)
    assert len(app.get("vega_lite_chart")) == 3


def test_a_model_without_a_finished_example_says_that_nothing_is_stored(own_store):
    app = open_page("sensitivity", model="digits-mlp")
    assert "No point of this sweep is stored yet" in app.info[0].value
    assert not app.get("vega_lite_chart")


def test_the_look_before_says_what_is_refused_and_why(own_store):
    app = open_page("sensitivity", model="digits-mobilenet", structure="2:4")
    look = app.dataframe[0].value.set_index("layer")
    task = load_task("digits-mobilenet")
    for name, layer in look.iterrows():
        inputs = dict(task.model.named_parameters())[name].shape[1]
        assert ("2:4" in layer["refused"]) == (inputs % 4 != 0), name
    assert any("points will be skipped" in expander.label for expander in app.expander)


def test_the_look_before_counts_the_skipped_points(own_store):
    app = open_page("sensitivity", structure="2:4")
    told = next(e.label for e in app.expander if "skipped" in e.label)
    assert_example(app)
    app = start(app)
    assert "A finished example" not in [header.value for header in app.subheader]
    rows = cache.store().rows(plan_on(app))
    skipped = sum(row.status == "skipped" for row in rows)
    assert told == f"4 layers pruned, one at a time; {skipped} points will be skipped"
    assert any(f"{skipped} skipped" in expander.label for expander in app.expander)


def test_out_channel_names_the_biases_that_go_too(own_store):
    app = open_page("sensitivity", structure="out-channel")
    look = app.dataframe[0].value.set_index("layer")
    assert look.loc["conv1.weight", "goes with it"] == "conv1.bias"
    assert "not yet removed" in texts(app)


def test_a_run_fills_the_page_and_is_there_when_it_is_opened_again(finished):
    assert not finished.exception
    assert finished.button(key="start").disabled
    again = open_page("sensitivity", model="digits-mlp")
    again.number_input(key="sweep-samples digits-mlp validation").set_value(60).run()
    assert "All 36 points are stored" in again.button(key="start").label
    assert len(again.get("vega_lite_chart")) == 3
    shown = again.dataframe[1].value
    assert {"asked (%)", "achieved (%)", "drop (points)", "samples", "split"} <= set(shown)


def test_what_is_copied_measures_the_same_points(finished, own_store, tmp_path):
    plan = plan_on(finished)
    rows = cache.store().rows(plan)
    codes = [code.value for code in finished.code]
    assert sweep_python(plan) in codes
    assert sweep_command(plan) in codes
    found: dict = {}
    exec(sweep_python(plan), found)
    assert [without_time(row) for row in found["rows"]] == [without_time(row) for row in rows]
    program, *arguments = shlex.split(sweep_command(plan))
    out = tmp_path / "rows.json"
    assert program == "sparsity"
    other = tmp_path / "other"
    assert main([*arguments, "--store", str(other), "--out", str(out), "--workers", "0"]) == 0
    assert [row["point_id"] for row in json.loads(out.read_text())] == [r.point_id for r in rows]


def without_time(row):
    return replace(row, seconds=0.0, device="")


def test_the_chosen_layer_is_one_for_the_whole_page(finished):
    finished.selectbox(key="layer").set_value("fc3.weight").run()
    assert not finished.exception
    assert "fc3.weight, every scorer and structure" in texts(finished)
    heat = json.loads(finished.get("vega_lite_chart")[1].proto.spec)
    assert len(heat["layer"]) == 3  # boxes, words, and the ring around the chosen layer


def test_the_answer_is_the_core_s_and_can_be_taken_along(finished):
    rows = [r for r in cache.store().rows(plan_on(finished)) if r.scorer == "magnitude"]
    finished.number_input(key="allowed").set_value(5.0).run()
    finished.toggle(key="cautious").set_value(True).run()
    expected = sparsest_within(rows, 0.05, cautious=True)
    answer = next(
        d.value for d in finished.dataframe if "why not sparser" in d.value.columns
    ).set_index("layer")
    for choice in expected:
        assert answer.loc[choice.layer, "asked (%)"] == pytest.approx(100 * choice.sparsity)
    finished.button(key="use recipe").click().run()
    recipe = finished.session_state["frame"].recipe
    assert dict(recipe.allocation.layers) == pytest.approx(
        {choice.layer: choice.sparsity for choice in expected}
    )
    assert yaml.safe_load(recipe.to_yaml())["allocation"]["kind"] == "manual"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sweep-levels", "", "no sparsities chosen"),
        ("sweep-levels", ["-5"], "out of range"),
        ("sweep-levels", ["150"], "more than 1"),
        ("sweep-levels", ["half"], "is not a number"),
        ("sweep-structures", ["9:4"], "n:m"),
        ("sweep-structures", ["blok"], "did you mean 'block'"),
    ],
)
def test_bad_choices_are_one_line_without_a_traceback(own_store, key, value, said):
    app = open_page("sensitivity", **{key: value})
    assert not app.exception
    (error,) = app.error
    assert said in error.value
    assert "\n" not in error.value
    assert "Traceback" not in error.value


def test_a_failed_point_is_seen_with_its_reason_and_may_run_again(own_store):
    app = open_page("sensitivity", model="digits-mlp")
    plan = cache.plan_of(
        "digits-mlp", scorers=["magnitude", "random"], sparsities=[0.3, 0.5, 0.7, 0.8, 0.9, 0.95]
    )
    first, *others = plan.points()
    cache.store().add("sweep", [plan.unmeasured(first, "failed", "the worker was killed")])
    app.run()
    assert app.button(key="start").label.startswith(f"Run {len(others) + 1} new points (0 stored")
    assert any("1 failed" in expander.label for expander in app.expander)
    reasons = [d.value for d in app.dataframe if "message" in d.value.columns][-1]
    assert list(reasons["message"]) == ["the worker was killed"]


def test_a_mask_that_changes_nothing_is_marked(own_store):
    app = open_page("sensitivity", **{"sweep-levels": ["0.1"], "sweep-layers": "conv1.weight"})
    app = start(app)
    numbers = next(d.value for d in app.dataframe if "point" in d.value.columns)
    assert set(numbers["point"]) == {"changed nothing"}
    rows = frame_of(cache.store().rows(plan_on(app)))
    drawn = json.dumps(one_layer(rows, "accuracy").to_dict())
    assert "changed nothing" in drawn


def test_an_emptied_layer_is_told_from_a_measured_one(own_store):
    app = open_page("sensitivity", **{"sweep-levels": ["100"], "sweep-layers": "fc1.weight"})
    app = start(app)
    assert any("2 collapsed" in expander.label for expander in app.expander)


@pytest.mark.parametrize("trouble", ["garbage", "newer"])
def test_a_store_that_cannot_be_used_is_said_and_the_model_page_still_works(own_store, trouble):
    file = own_store / "results.sqlite"
    if trouble == "garbage":
        file.write_bytes(b"this is no database" * 100)
    else:
        Store(own_store)
        with sqlite3.connect(file) as db:
            db.execute("PRAGMA user_version=99")
        db.close()
    app = open_page("sensitivity")
    assert not app.exception
    assert str(file) in app.error[0].value
    assert not open_page("model").exception
    assert not open_page("model").error
    file.unlink()


def test_the_charts_show_the_mean_of_several_seeds_and_the_dense_line(own_store):
    plan = cache.plan_of(
        "digits-mlp", scorers=["random"], sparsities=[0.5], seeds=[0, 1], samples=50,
        layers=["fc1"],
    )  # fmt: skip
    rows = list(plan.run(load_task("digits-mlp"), plan.points()))
    table = frame_of(rows)
    drawn = one_layer(table, "accuracy").to_dict()
    values = {
        round(row["value"], 6)
        for rows_ in drawn["datasets"].values()
        for row in rows_
        if "value" in row
    }
    assert values == {round(float(table["value"].mean()), 6)}
    assert f"dense {table['dense_value'].iloc[0]:.1f} %" in json.dumps(drawn)
    for chart in (all_layers(table, "fc1.weight", "accuracy"), heatmap(table, "fc1.weight")):
        assert chart.to_dict()["layer"]


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        (
            (0.3, 0.9, 0.0),
            "Alone, `b` stays within 1 point of dense up to 90 %; `c`, the most sensitive, at no "
            "measured sparsity.",
        ),
        (
            (0.3, 0.5, 0.5),
            "Alone, 2 layers stay within 1 point of dense up to 50 %; `a`, the most sensitive, up "
            "to 30 %.",
        ),
        ((0.5, 0.5), "Alone, every layer stays within 1 point of dense up to 50 %."),
        ((0.7,), "Alone, `a` stays within 1 point of dense up to 70 %."),
    ],
)
def test_a_sweep_in_a_sentence(shares, sentence):
    choices = [
        Choice(layer, SimpleNamespace(sparsity=share) if share else None, "")
        for layer, share in zip("abc", shares, strict=False)
    ]
    assert in_a_sentence(choices, "within 1 point of dense") == sentence


def test_unmeasured_points_alone_make_no_chart_fail(own_store):
    plan = cache.plan_of("digits-lenet", structures=["2:4"], sparsities=[0.9])
    table = frame_of(list(plan.run(load_task("digits-lenet"), plan.points())))
    assert isinstance(table, pd.DataFrame)
    assert table["value"].isna().all()
    words = json.dumps(heatmap(table, "conv1.weight").to_dict())
    assert "skipped" in words


def test_a_question_is_asked_in_points_of_the_model_s_own_metric():
    def form() -> None:
        from app.answer_form import choose_question

        choose_question("agreement")

    app = AppTest.from_function(form, default_timeout=60).run()
    app.selectbox(key="sweep-answer").set_value("drop over").run()
    assert app.number_input(key="sweep-asked").label == "Points of agreement"


def test_a_dense_model_far_below_its_card_is_called_out(own_store, monkeypatch):
    card = {"accuracy": {"validation": {"value": 0.99}}}
    low = SimpleNamespace(dense_value=0.61, samples=360, split="validation", metric="accuracy")
    plan, said = SimpleNamespace(model="digits-mlp"), []
    monkeypatch.setattr(sensitivity_view.cache, "task", lambda _: SimpleNamespace(card=card))
    monkeypatch.setattr(sensitivity_view.st, "warning", said.append)
    sensitivity_view.warn_of_card(plan, [SimpleNamespace(**vars(low) | {"dense_value": 0.98})])
    assert not said
    sensitivity_view.warn_of_card(plan, [low])
    assert said[0].startswith("top-1 is 61.1% on 360 samples, but 99.0% is on the model's card")
