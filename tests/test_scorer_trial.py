"""A trial of scorers beside their controls: one click, verdicts, what the forms read."""

from dataclasses import replace

import pytest

from app import cache, scorer_source
from app.about import entry, readable
from app.curve_names import label
from app.reopen import view_of
from app.scorer_dots import BEATS, EMPTIED, NO_BETTER, UNCLEAR, dots
from app.scorer_trial import table_of
from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.controls import with_controls
from sparsity_core.curve import plan_curve
from sparsity_core.recipe import Recipe
from sparsity_core.repairs import REPAIRS
from sparsity_core.schedules import SCHEDULES
from sparsity_core.scorers import SCORERS, Magnitude, Random, Taylor
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task
from sparsity_core.units import unit_of
from tests.app_session import open_page, own_store, texts, wait_for_jobs
from tests.test_app_scorers import opened

__all__ = ["own_store"]


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A busy machine must not show the waiting screen, save where it is tested."""
    monkeypatch.setattr(scorer_source, "PATIENCE", 60)
    monkeypatch.setattr(cache, "PATIENCE", 60)
    scorer_source._board.clear()


def test_one_click_measures_every_scorer_beside_its_controls(own_store):
    app = opened(scorers=["magnitude", "wanda"], sparsity="90")
    button = app.button(key="start trial")
    assert button.label.startswith("Run 6 new points")  # magnitude, taylor (B), wanda, shuffled
    assert "and 5 of random" in button.label
    button.click().run()
    wait_for_jobs()
    app.run()
    assert not app.exception
    assert app.button(key="start trial").label == "All 11 points are stored"
    table = app.dataframe[-1].value
    assert sorted(table["scorer"][table["control"] == ""]) == ["magnitude", "taylor", "wanda"]
    assert (table["control"] == "random").sum() == 5
    assert (table["control"] == "shuffled").sum() == 3
    assert set(table["verdict"][table["control"] == ""]) <= {BEATS, UNCLEAR, NO_BETTER}
    assert "Paired 95 %" in texts(app) or "paired 95 % interval" in texts(app)
    # A new visit finds it measured.
    assert opened(scorers=["magnitude", "wanda"], sparsity="90").button(key="start trial").disabled


def test_a_click_is_not_lost_when_the_scorers_end_just_then(own_store, monkeypatch):
    app = opened(scorers=["magnitude", "wanda"], sparsity="90")
    at_work = iter([True])  # when the page begins to be drawn, and not any more when it is
    monkeypatch.setattr("app.scorer_study._at_work", lambda _: next(at_work, False))
    app.button(key="start trial").click().run()
    assert len(cache.queue().jobs()) == 2


def test_the_whole_model_leaves_out_only_who_cannot_prune_it(own_store):
    link = {"scorers": ["magnitude", "apoz"], "structure": "out-channel"}
    app = opened(**link, **{"scorers-scope": "Whole model", "scorers-shuffled": "false"})
    assert app.button(key="start trial").label.startswith("Run 3 new points")
    app = opened(**link, **{"scorers-scope": "This layer", "scorers-shuffled": "false"})
    assert app.button(key="start trial").label.startswith("Run 2 new points")  # no ReLU: no apoz


def test_verdicts_go_by_the_better_of_both_controls():
    task = load_task("digits-mlp")
    plan = plan_curve(task, recipes=[Recipe(0.5)], sparsities=[0.5])
    blank = plan.unmeasured(plan.points()[0], "ok", "")

    def row(scorer, value, low):
        return replace(
            blank, scorer=scorer, value=value, dense_value=0.9, drop=0.9 - value,
            drop_high=0.9 - low, drop_low=0.9 - 2 * value + low,
        )  # fmt: skip

    rows = [
        row("random", 0.40, 0.35),
        row("random", 0.50, 0.45),
        row("magnitude", 0.80, 0.70),
        row("taylor", 0.55, 0.48),
        row("wanda", 0.45, 0.40),
        row("magnitude, shuffled", 0.42, 0.40),
        row("obd", 0.70, 0.65),
        row("obd, shuffled", 0.72, 0.60),
    ]
    table = table_of(rows).set_index(["scorer", "control"])["verdict"]
    assert table["magnitude", ""] == BEATS
    assert table["taylor", ""] == UNCLEAR
    assert table["wanda", ""] == NO_BETTER
    assert table["magnitude", "shuffled"] == ""
    assert table["obd", ""] == NO_BETTER  # better than random, but not than its own counts
    chart = dots(table_of(rows), "accuracy (%)", unit_of("accuracy")).to_dict()
    names = {r["scorer"] for d in chart["datasets"].values() for r in d if "scorer" in r}
    assert {"magnitude", "? taylor", "\N{MULTIPLICATION SIGN} wanda"} <= names
    assert set(table_of(rows[2:])["verdict"]) == {""}  # no random yet: nothing to say
    collapsed = replace(row("grasp", 0.95, 0.9), status="collapsed")
    assert list(table_of([*rows, collapsed])["verdict"])[-1] == EMPTIED


def test_a_trial_of_many_scorers_has_a_short_title():
    recipes = [Recipe(scorer=SCORERS.make(kind)) for kind in SCORERS]
    plan = plan_curve(load_task("digits-mlp"), recipes=recipes)
    assert plan.title.endswith(f"; {len(recipes) - 4} more")
    assert len(plan.title) < 200
    few = plan_curve(load_task("digits-mlp"), recipes=recipes[:5])
    assert SCORERS.label(recipes[4].scorer) in few.title


def test_controls_come_besides_and_random_is_not_shuffled():
    recipes = [Recipe(), Recipe(scorer=Taylor())]
    assert with_controls(recipes, random=False, shuffled=False, scored_once=False) == recipes
    both = with_controls(recipes, random=True, shuffled=True, scored_once=False)
    assert [r.scorer for r in both if not r.shuffled] == [Magnitude(), Taylor(), Random()]
    assert [r.scorer for r in both if r.shuffled] == [Magnitude(), Taylor()]
    assert label(both[-1]) == "taylor, shuffled · unstructured · uniform · one-shot"


def test_shuffled_curves_are_named_and_reopened(own_store):
    task = load_task("digits-mlp")
    recipes = with_controls([Recipe()], random=True, shuffled=True, scored_once=False)
    plan = plan_curve(task, recipes=recipes, sparsities=[0.5], samples=50, device="cpu")
    view = view_of(plan, [])
    assert view is not None
    assert view["curve-shuffled"]
    assert view["curve-random"] or view["curve-scorer"] == ["random"]
    link = {"model": "digits-mlp", "curve-random": "true", "curve-shuffled": "true"}
    app = open_page("tradeoff", **link)
    assert not app.exception
    assert "- magnitude, shuffled · unstructured" in texts(app)


def test_random_and_shuffled_controls_elsewhere(own_store):
    app = open_page("sensitivity", model="digits-mlp")
    both = app.button(key="start").label
    app.checkbox(key="sweep-random").set_value(False).run()
    assert app.button(key="start").label.split()[1] == str(int(both.split()[1]) // 2)
    link = {"mask-compare": "true", "mask-scorer": "magnitude", "sparsity": "90"}
    same = open_page("masks", model="digits-mlp", **link)
    table = next(d.value for d in same.dataframe if "Jaccard" in d.value)
    assert (table["Jaccard"] == 1).all()
    shuffled = open_page("masks", model="digits-mlp", **link, **{"mask-shuffled": "true"})
    table = next(d.value for d in shuffled.dataframe if "Jaccard" in d.value)
    assert (table["Jaccard"] - table["Jaccard by chance"]).abs().max() < 0.1


def test_every_entry_can_be_read_in_the_form(own_store):
    app = open_page("tradeoff", model="digits-mlp")
    said = texts(app)
    for registry in (SCORERS, STRUCTURES, ALLOCATIONS, SCHEDULES, REPAIRS):
        for kind in registry:
            assert said.count(entry(registry, kind)) >= 1, kind


def test_formulas_are_shown_as_they_are_written():
    assert readable("|w_ij| * ||x_j||_2") == r"\|w\_ij\| \* \|\|x\_j\|\|\_2"
    assert readable("`a_b` of a_b") == r"`a_b` of a\_b"
    assert readable("arXiv 2306.11695.") == "[arXiv 2306.11695](https://arxiv.org/abs/2306.11695)."
    assert "  \nSource: " in entry(SCORERS, "fisher")
