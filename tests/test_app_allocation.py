"""The Allocation page: every rule at one target, an allocation in hand."""

import pytest
import streamlit as st
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df

from app import allocation_editor, cache
from app.allocation_rules import mark_of
from app.allocation_source import Share, _outcome
from app.allocation_words import rules_python
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.cost import cost
from sparsity_core.probe import Probe
from sparsity_core.recipe import Recipe
from sparsity_core.rounds import run
from sparsity_core.setting import draw_batches
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task
from tests.app_session import open_page, own_store, texts

__all__ = ["own_store"]

MANUAL = "conv1.weight: 25\nfc1.weight: 90"


@pytest.fixture(scope="module")
def task():
    return load_task("digits-lenet")


@pytest.fixture(scope="module")
def probe(task):
    return Probe(task.model, draw_batches(task.train, 512, 0, "cpu"), task.loss, seed=0)


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    monkeypatch.setattr(cache, "PATIENCE", 60)  # a busy machine must not show the waiting screen
    monkeypatch.setattr("app.allocation_source.PATIENCE", 60)


def panels(app):
    """What each rule's bars show: layer -> per cent achieved, by rule."""
    found = {}
    for element in app.get("vega_lite_chart"):
        if element.proto.data.data:  # inline rows; charts made by Altair have named ones
            table = convert_arrow_bytes_to_pandas_df(element.proto.data.data)
            found[table["rule"][0]] = dict(zip(table["layer"], table["achieved"], strict=True))
    return found


def metrics(app):
    return {metric.label: metric.value for metric in app.metric}


def share(kept, weights, kept_units=None, units=None, achieved=None):
    return Share(
        layer="a",
        asked=0.5,
        achieved=1 - kept / weights if achieved is None else achieved,
        weights=weights,
        kept=kept,
        macs=0,
        kept_macs=0,
        units=units or weights,
        kept_units=kept if kept_units is None else kept_units,
    )


@pytest.mark.parametrize(
    ("left", "mark"),
    [
        (share(0, 1000), "emptied"),
        (share(9, 1000), "nearly emptied"),  # less than 1 %
        (share(10, 1000), ""),
        (share(1, 50), "nearly emptied"),  # a single weight
        (share(100, 1000, kept_units=1, units=10), "nearly emptied"),  # a single channel
        (share(100, 1000, kept_units=2, units=20), ""),
        (share(1, 1, achieved=0.0), ""),  # was never more
        (share(0, 1000, achieved=0.0), ""),  # dense, and zeros before anybody pruned
    ],
)
def test_a_layer_is_marked_when_next_to_nothing_is_left(left, mark):
    assert mark_of(left) == mark


@pytest.mark.parametrize("structure", ["unstructured", "out-channel", "2:4"])
def test_an_outcome_is_what_a_run_does_and_costs(task, probe, structure):
    recipe = Recipe(0.5, structure=STRUCTURES.make(structure))
    costs = {layer.name: layer for layer in cost(task.model, task.train.inputs[:1]).layers}
    outcome = _outcome(probe, recipe, costs)
    *_, last = run(task, recipe)
    assert outcome.achieved == last.pruning.achieved
    assert dict(outcome.skipped) == last.pruning.skipped
    spent = {layer.name: layer for layer in cost(last.model, task.train.inputs[:1]).layers}
    for own in outcome.shares:
        assert (own.kept, own.kept_macs) == (
            spent[own.layer].nonzeros,
            spent[own.layer].effective_macs,
        )


def test_every_rule_has_its_bars_as_the_core_makes_them(own_store, task, probe):
    app = open_page("allocation", sparsity="70")
    assert not app.exception
    shown = panels(app)
    by_target = [kind for kind in ALLOCATIONS if ALLOCATIONS.make(kind).budget is not None]
    assert list(shown) == by_target
    sizes = {name: layer.size for name, layer in probe.layers.items()}
    for kind in ("uniform", "global", "erk", "lamp"):
        *_, last = run(task, Recipe(0.7, allocation=ALLOCATIONS.make(kind)))
        expected = {name: 100 * share for name, share in last.pruning.achieved.items()}
        assert shown[kind] == pytest.approx(expected)
        zeros = sum(shown[kind][name] * size for name, size in sizes.items())
        assert zeros / sum(sizes.values()) == pytest.approx(70, abs=0.01)
    written = texts(app)
    assert written.count("Asked 70 %") == len(by_target)
    assert "achieved 70.0 % of weights" in written
    assert "achieved 70.0 % of multiply-adds" in written  # flops


def test_the_target_is_the_sidebars_from_both_sides(own_store):
    app = open_page("allocation", sparsity="60")
    assert app.slider(key="alloc-target").value == 60
    app.slider(key="alloc-target").set_value(80).run()
    assert app.slider(key="sparsity").value == 80
    app.slider(key="sparsity").set_value(30).run()
    assert app.slider(key="alloc-target").value == 30


@pytest.mark.parametrize("target", ["0", "100"])
def test_at_both_ends_nothing_breaks_and_what_cannot_be_is_said(own_store, target):
    app = open_page("allocation", sparsity=target)
    assert not app.exception
    shown = panels(app)
    assert set(shown["uniform"].values()) == {float(target)}
    if target == "100":
        assert "uniform-plus" not in shown
        assert "keeps a fifth, so the model cannot reach sparsity 1" in texts(app)
        assert "**uniform**: emptied: conv1.weight" in texts(app)
    else:
        assert app.success[0].value.startswith("No rule empties a layer")
        assert metrics(app)["Forecast of the loss rise"] == "+0.000 nats"


def test_two_of_four_refuses_uneven_rules_in_their_place(own_store):
    app = open_page("allocation", structure="2:4")
    assert not app.exception
    shown = panels(app)
    assert set(shown["uniform"]) == {"conv2.weight", "fc1.weight", "fc2.weight"}
    assert "erk" not in shown
    assert "2:4 always removes 0.5 of the weights" in texts(app)
    assert any("1 layer stays dense" in expander.label for expander in app.expander)
    assert not [one for one in app.button if one.key == "sweep"]  # what ships has its one sparsity


def test_a_structure_that_fits_no_layer_is_one_line(own_store):
    app = open_page("allocation", structure="61x1")
    assert not app.exception
    (error,) = app.error
    assert error.value.startswith("no layer can be pruned")
    assert "\n" not in error.value


def test_a_manual_allocation_is_counted_as_the_core_counts(own_store, task):
    app = open_page("allocation", allocation="manual", manual=MANUAL)
    assert not app.exception
    manual = ALLOCATIONS.make("manual", layers={"conv1.weight": 0.25, "fc1.weight": 0.9})
    *_, last = run(task, Recipe(allocation=manual))
    spent = cost(last.model, task.train.inputs[:1])
    weights = sum(layer.parameters for layer in spent.layers)
    kept = sum(layer.nonzeros for layer in spent.layers)
    macs, kept_macs = (
        sum(getattr(layer, name) for layer in spent.layers) for name in ("macs", "effective_macs")
    )
    assert metrics(app)["Weights kept"] == f"{100 * kept / weights:.1f} %"
    assert metrics(app)["Multiply-adds kept"] == f"{100 * kept_macs / macs:.1f} %"
    assert f"{kept:,} of {weights:,}" in texts(app)
    assert panels(app)["manual"]["fc1.weight"] == pytest.approx(90, abs=0.01)


def test_start_from_a_rule_and_other_pages_have_it(own_store):
    app = open_page("allocation", sparsity="80")
    expected = panels(app)["erk"]
    app.selectbox(key="alloc-start").set_value("erk").run()
    app.button(key="start from").click().run()
    assert app.session_state["allocation"] == "manual"
    assert app.slider(key="sparsity").value == 80  # the target of the rules stays
    assert panels(app)["manual"] == pytest.approx(expected)
    app.switch_page("../pages/masks.py").run()
    assert "magnitude · unstructured · manual" in texts(app)


def test_what_is_dragged_or_typed_becomes_the_sidebars_choice(monkeypatch):
    edited = {"conv1.weight": 12.5, "conv2.weight": 50, "fc1.weight": 0}
    state = {allocation_editor._KEY: {"edited": edited}}
    monkeypatch.setattr(st, "session_state", state)
    allocation_editor._take_edited({"fc1.weight": "does not fit"})
    assert state["allocation"] == "manual"
    assert state["manual"] == "conv1.weight: 12.5\nconv2.weight: 50"


def test_a_manual_layer_of_another_model_is_said_and_a_rule_helps(own_store):
    app = open_page("allocation", allocation="manual", manual="conv9.weight: 50")
    assert not app.exception
    assert "unknown layer of the manual allocation 'conv9.weight'" in app.error[0].value
    app.button(key="start from").click().run()
    assert not app.error
    assert metrics(app)["Weights kept"] == "50.0 %"


def test_python_prints_the_same_sparsities(own_store, capsys):
    recipes = [Recipe(0.8, allocation=ALLOCATIONS.make(k)) for k in ("uniform-plus", "sensitivity")]
    exec(rules_python("digits-mlp", recipes), {})
    first, second = capsys.readouterr().out.splitlines()
    *_, last = run(load_task("digits-mlp"), recipes[0])
    assert first == f"uniform-plus {last.pruning.achieved}"
    assert second.startswith("sensitivity sensitivity: no curve of")
