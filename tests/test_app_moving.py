"""The Moving masks page: the example, a run, the film, and words that make it again."""

import shlex
import time
from dataclasses import replace

import numpy as np
import pytest

from app import cache
from app.moving_charts import against_cost, by_step, frame_of, layer_drift
from app.moving_film import place_of
from app.moving_form import view_of
from app.moving_frames import frames_of, pixel_map
from app.moving_source import example
from app.moving_words import moving_command, moving_python
from sparsity_core import checkpoint
from sparsity_core.cli import measure
from sparsity_core.cli.main import main
from sparsity_core.dynamic import RULES, RigL
from sparsity_core.dynamic.film import packed, unpacked
from sparsity_core.dynamic.plan import MovingPlan
from sparsity_core.dynamic.planning import plan_moving
from sparsity_core.recipe import Training
from sparsity_core.task import load_task
from tests.app_session import Held, open_page, own_store, texts, wait_for_jobs

__all__ = ["own_store"]

SMALL = {
    "model": "digits-mlp",
    "moving-rules": ["rigl", "srigl"],
    "moving-steps": "12",
    "moving-every": "4",
    "moving-interval": "2",
    "moving-seeds": "1",
}


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


def charts(app):
    return [element.proto.spec for element in app.get("vega_lite_chart")]


def test_the_first_screen_is_a_finished_example(own_store):
    app = open_page("moving")
    assert not app.exception
    shown = texts(app)
    assert "A finished example" in shown
    assert "sparsity train mnist-lenet-300-100" in shown
    assert "made this one, which ships with this version" in shown
    assert "**Simulated**" in shown
    assert "born ▲" in shown
    assert "input pixels have no connection" in shown
    assert len(charts(app)) == 7
    assert app.button("start").label == "Train 12 networks"
    # Nothing of it was trained, so a few steps are tried before anybody starts it.
    assert "**12 networks of 800 steps, each looked at 21 times**" in shown


def test_the_example_is_whole():
    found = example()
    assert found is not None
    rows = {row.point_id: row for row in found.rows}
    assert set(rows) == {point.id for point in found.plan.points()}
    assert {row.status for row in rows.values()} == {"ok"}
    ends = {row.rule.partition("(")[0]: row for row in rows.values() if row.value is not None}
    assert set(ends) >= {"dense", "static", "set", "rigl", "srigl"}
    assert ends["static"].value < ends["rigl"].value < ends["dense"].value
    filmed = {RULES.kind_of(training.rule) for training in found.filmed()}
    assert filmed == {"set", "rigl", "srigl"}
    for training in found.filmed():
        film = found.film(training)
        assert film.steps == found.plan.looks
        last = {name: int(film.masks(name)[-1].sum()) for name in film.shapes}
        stored = [r for r in rows.values() if r.step == found.plan.steps and r.seed == 0]
        assert str(last).replace("'", '"') in {row.layers for row in stored}


def test_train_and_watch(own_store):
    app = open_page("moving", **SMALL)
    app.button("start").click().run()
    wait_for_jobs()
    app.run()
    assert not app.exception
    shown = texts(app)
    assert "A finished example" not in shown
    assert "digits-mlp: 12 steps of sgd each" in shown
    assert "All 4 networks are stored" in app.button("start").label
    assert len(charts(app)) == 7
    for view, count in (("Layers", 7), ("Numbers", 6)):
        app = open_page("moving", **SMALL, **{"moving-view": view})
        assert not app.exception
        assert len(charts(app)) == count
    place = next(slider for slider in app.select_slider if slider.label == "Step")
    place.set_value("12").run()
    assert "Step **12**, since step 8" in texts(app)
    play = next(toggle for toggle in app.toggle if toggle.label == "Play")
    play.set_value(True).run()
    assert not app.exception
    app = open_page("runs")
    assert not app.exception
    assert "moving masks" in app.dataframe[0].value["what"].iloc[0]
    run = cache.store().runs()[0].id
    app = open_page("runs", run=run[:8])
    assert not app.exception


def test_the_film_of_a_training_under_way_is_shown_at_its_end(own_store, monkeypatch):
    monkeypatch.setattr(checkpoint, "_LOST", 0.0)
    looks = 4
    monkeypatch.setattr(cache, "WorkerProcesses", lambda *_: Held(2 * looks + 3))
    app = open_page("moving", **SMALL)
    app.button("start").click().run()
    (job,) = cache.queue().jobs()
    while job.view.done < 2 * looks + 3:  # dense, static, and rigl up to step 8
        assert job.view.active, job.view
        time.sleep(0.02)
    app = open_page("moving", **SMALL)
    assert not app.exception
    place = next(slider for slider in app.select_slider if slider.label == "Step")
    assert (place.options, place.value) == (["0", "4", "8"], 8)
    assert "Step **8**, since step 4" in texts(app)
    assert "it goes on here" in texts(app)


def test_a_film_that_grows_is_followed_unless_another_step_was_chosen():
    assert place_of([0, 4, 8], None, None, whole=False) == 8
    assert place_of([0, 4, 8, 12], 8, 8, whole=False) == 12
    assert place_of([0, 4, 8, 12], 4, 8, whole=False) == 4
    assert place_of([0, 5], 8, 12, whole=False) == 5  # another film
    assert place_of([0, 4, 8, 12, 16, 20, 24], None, None, whole=True) == 8
    assert place_of([0], None, None, whole=True) == 0


def plan_of(task, **options):
    options = {
        "rules": [RigL(every=2), RULES.make("set", every=2), RULES.make("gmp", every=2)],
        "training": Training(steps=8, rate=0.1, weight_decay=1e-4),
        "sparsities": [0.9, 0.95],
        "every": 4,
        "device": "cpu",
    } | options
    return plan_moving(task, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rules": [RULES.make("mest", soft=True, extra=(0.1, 0.0), stages=(0.5,))], "seeds": [3]},
        {"rules": [RULES.make("srigl-2:4", drop=0.1), RULES.make("str")], "matched": True},
        {"skip": ["last"], "rules": [RULES.make("ac-dc")], "split": "validation", "samples": 50},
    ],
)
def test_words_make_the_same_plan(task, monkeypatch, options):
    plan = plan_of(task, **options)
    made = []
    monkeypatch.setattr(measure, "execute", lambda made_plan, *_: made.append(made_plan) or 0)
    _, *words = shlex.split(moving_command(plan))
    assert main(words) == 0
    assert made[0] == plan
    code = moving_python(plan).rpartition("rows = ")[0]
    names: dict = {}
    exec(code, names)
    assert names["plan"] == plan
    odd = replace(plan, training=replace(plan.training, clip=1.0))
    assert "use the Python" in moving_command(odd)


def test_a_stored_plan_goes_back_into_the_form(task):
    shared = {"every": 5, "drop": 0.2, "until": 0.5}
    rules = [RigL(**shared), RULES.make("gmp", every=5, until=0.5)]
    view = view_of(plan_of(task, rules=rules))
    assert view["moving-rules"] == ["rigl", "gmp"]
    assert (view["moving-interval"], view["moving-drop"]) == (5, 20.0)
    assert view_of(plan_of(task, rules=[RigL(every=5), RULES.make("gmp", every=6)])) is None
    assert view_of(plan_of(task, skip=["first"])) is None


# Charts and frames


def test_charts(task):
    plan = plan_of(task, seeds=[0, 1])
    rows = list(plan.run(task, plan.points()))
    table = frame_of(rows)
    assert list(dict.fromkeys(table["series"]))[:3] == ["dense", "static, 90 %", "static, 95 %"]
    spec = by_step(table, "validation_value", "accuracy (%)", from_start=False).to_dict()
    assert {layer["mark"]["type"] for layer in spec["layer"]} == {"area", "line", "point"}
    spec = against_cost(table, "accuracy", 360, "test").to_dict()
    assert spec["layer"][1]["encoding"]["y"]["title"] == "accuracy (%, 360 test samples)"
    drift = layer_drift(rows[:1], {"fc1.weight": 19200, "fc2.weight": 30000, "fc3.weight": 1000})
    assert drift["sparsity"].tolist() == [0.0, 0.0, 0.0]
    assert isinstance(plan, MovingPlan)


def test_frames_by_eye():
    one, two = np.array([[1, 1, 0, 0]], bool), np.array([[1, 0, 1, 0]], bool)
    frames = frames_of([one, two, one])
    kinds = frames.kinds(2)
    assert {name: mask.astype(int).tolist() for name, mask in kinds.items()} == {
        "stays": [[1, 0, 0, 0]],
        "born": [[0, 0, 0, 0]],
        "returned": [[0, 1, 0, 0]],
        "died": [[0, 0, 1, 0]],
    }
    assert frames.kinds(1)["born"].tolist() == [[False, False, True, False]]
    assert frames.counts()["count"].tolist() == [0, 0, 0, 1, 0, 1, 0, 1, 1]
    assert set(frames.window(2, 0, 0)["kind"]) == {"stays", "returned", "died"}
    assert pixel_map(frames, 0, (1, 2, 2)).tolist() == [[1, 1], [0, 0]]
    assert pixel_map(frames, 0, (1, 3, 3)) is None
    assert frames.fan_in(0).tolist() == [2]


def test_the_busiest_window():
    quiet = np.zeros((100, 200), bool)
    moved = quiet.copy()
    moved[45:50, 85:90] = True
    assert frames_of([quiet, moved]).busiest() == (40, 80)
    assert frames_of([quiet]).busiest() == (0, 0)


def test_films_are_packed_as_text():
    found = example()
    film = found.film(found.filmed()[0])
    assert packed(unpacked(packed(film))) == packed(film)
