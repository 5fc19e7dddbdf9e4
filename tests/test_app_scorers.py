"""The Scorers page: two scorers, what they agree on, slow and broken ones."""

import math
import time

import numpy as np
import pytest
from scipy.stats import spearmanr

from app import cache, scorer_source
from app.scorer_view import correlations, cut, histogram, ranks
from app.scorer_words import scores_python
from sparsity_core.probe import Probe
from sparsity_core.recipe import Recipe
from sparsity_core.rounds import run
from sparsity_core.scorers import SCORERS, Magnitude, Taylor
from sparsity_core.setting import draw_batches
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task
from tests.app_session import open_page, own_store, texts
from tests.test_app_masks import drawn

__all__ = ["own_store"]

QUICK = ["magnitude", "random", "taylor", "wanda"]  # all that these tests have scored

PAGE = {"model": "digits-mlp", "scorers": QUICK, "layer": "fc3.weight"}


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A busy machine must not show the waiting screen, save where it is tested."""
    monkeypatch.setattr(scorer_source, "PATIENCE", 60)
    monkeypatch.setattr(cache, "PATIENCE", 60)
    scorer_source._board.clear()


def opened(**link):
    """The page once every scorer that it asked for has answered."""
    app = open_page("scorers", **(PAGE | link))
    assert not app.exception
    board = scorer_source.board_of(str(app.selectbox(key="model").value), "auto")
    board.wait(list(board._answers))
    app.run()
    assert not app.exception
    return app


def correlations_on_screen(app):
    cells = drawn(app, 4).dropna(subset=["text"])
    return cells.drop_duplicates(["row", "column"]).set_index(["row", "column"])["value"]


def scores_of(model, kind, layer):
    task = load_task(model)
    probe = Probe(task.model, draw_batches(task.train, 512, 0, "cpu"), task.loss, seed=0)
    return SCORERS.make(kind).score(probe)[layer].double().flatten().numpy()


def test_first_screen_shows_two_scorers_with_formula_source_and_scores(own_store):
    app = open_page("scorers", model="digits-lenet", scorers=QUICK)
    assert not app.exception
    said = texts(app)
    assert "A: magnitude" in said
    assert "B: taylor" in said
    assert "[arXiv 1906.10771](https://arxiv.org/abs/1906.10771)" in said
    assert "|w|" in [code.value for code in app.code]
    assert "needs no data · ranks single weights" in said
    assert "scored on 512 train samples · ranks single weights" in said
    assert "144 weights, 72 of them pruned" in said
    assert drawn(app, 0)["units"].sum() == 144


def test_counts_are_those_of_the_masks_that_the_core_makes(own_store):
    app = opened(sparsity="70")
    masks = [
        [*run(load_task("digits-mlp"), Recipe(0.7, scorer=scorer))][-1].pruning.masks["fc3.weight"]
        for scorer in (Magnitude(), Taylor())
    ]
    a, b = masks
    table = app.dataframe[0].value.set_index("")["weights"]
    assert table["kept by both"] == f"{int((a & b).sum())}"
    assert table["only A"] == f"{int((a & ~b).sum())}"
    assert table["only B"] == f"{int((b & ~a).sum())}"
    assert table["kept by none"] == f"{int((~a & ~b).sum())}"
    assert table["Jaccard"] == f"{float((a & b).sum() / (a | b).sum()):.3f}"
    points = drawn(app, 3)
    assert (points["kept by"] == "both").sum() == int((a & b).sum())


def test_the_matrix_is_spearmans_of_the_scores_themselves(own_store):
    app = opened()
    cells = correlations_on_screen(app)
    assert set(cells.index.get_level_values(0)) == set(QUICK)
    magnitude, taylor = (scores_of("digits-mlp", k, "fc3.weight") for k in ("magnitude", "taylor"))
    expected = spearmanr(magnitude, taylor).statistic
    assert cells["magnitude", "taylor"] == pytest.approx(expected, abs=1e-9)
    assert cells["taylor", "magnitude"] == pytest.approx(expected, abs=1e-9)
    assert abs(cells["magnitude", "random"]) < 0.2


def test_scorers_that_cannot_are_named_with_the_reason(own_store):
    able = ["magnitude", "bn-scale", "apoz"]
    app = opened(scorers=able)
    assert "**bn-scale, apoz**: fc3.weight cannot have unstructured masks by this" in texts(app)
    app = opened(scorers=able, structure="out-channel")
    assert "**bn-scale**: fc3.weight has no batch norm right behind it" in texts(app)
    assert math.isnan(correlations_on_screen(app)["bn-scale", "magnitude"])


def test_a_layer_that_nobody_can_have_says_so(own_store):
    app = opened(model="digits-lenet", layer="conv1.weight", structure="2:4")
    assert len(app.info) >= 3
    assert "needs a multiple of 4 inputs, got 1" in app.info[0].value
    assert "No scorer has scored this layer yet" in texts(app)
    assert "needs a multiple of 4 inputs" in app.error[0].value
    assert not [button for button in app.button if button.key == "start trial"]
    app.segmented_control(key="scorers-scope").set_value("Whole model").run()
    assert not app.error


@pytest.mark.parametrize("sparsity", ["0", "100"])
def test_nothing_and_everything_pruned(own_store, sparsity):
    app = opened(sparsity=sparsity)
    said = texts(app)
    assert f"{'0' if sparsity == '0' else '1,000'} of them pruned" in said
    table = app.dataframe[0].value.set_index("")["weights"]
    assert table["Jaccard"] == ("1.000" if sparsity == "0" else "nothing kept")


def test_every_structure_has_a_picture(own_store):
    for structure in ("2:4", "out-channel", "4x4", "constant-fan-in"):
        app = opened(layer="fc2.weight", structure=structure, scorers=["magnitude"])
        assert len(app.get("vega_lite_chart")) == 5, structure


def test_a_manual_recipe_gives_the_layer_its_own_share(own_store):
    app = opened(allocation="manual", manual="fc3.weight: 30")
    assert "**30 %** of fc3.weight" in texts(app)
    assert "300 of them pruned" in texts(app)


def test_a_scorer_that_breaks_is_named_and_the_page_stands(own_store, monkeypatch):
    def broken(self, probe):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(Taylor, "score", broken)
    app = opened()
    assert "no such luck" in app.info[0].value
    assert "**taylor**: RuntimeError('no such luck')" in texts(app)


def test_no_more_scorers_are_started_when_the_time_is_spent(own_store, monkeypatch):
    monkeypatch.setattr(scorer_source, "BUDGET", 0.0)
    app = opened()
    assert "Not scored, to save time: random, wanda." in texts(app)
    app.toggle(key="scorers-all").set_value(True).run()
    app = opened(**{"scorers-all": "true"})
    assert "Not scored" not in texts(app)
    assert correlations_on_screen(app).notna().all()


def test_a_scorer_too_dear_for_the_budget_lets_the_others_pass(own_store, monkeypatch):
    score = Taylor.score

    def slow(self, probe):
        time.sleep(0.5)
        return score(self, probe)

    monkeypatch.setattr(Taylor, "score", slow)
    monkeypatch.setattr(scorer_source, "BUDGET", 15.0)  # 0.5 s for 16 samples: 16 s for 512
    app = opened(**{"scorer-b": "wanda"})
    for _ in range(100):
        app.run()
        if "at work" not in texts(app):
            break
        time.sleep(0.1)
    assert "Not scored, to save time: taylor (up to" in texts(app)
    shown = correlations_on_screen(app).index.get_level_values(0)
    assert set(shown) == {"magnitude", "random", "wanda"}


def test_two_tabs_share_what_is_scored(own_store, monkeypatch):
    asked = []
    score = Taylor.score
    monkeypatch.setattr(Taylor, "score", lambda self, p: asked.append(self) or score(self, p))
    opened()
    opened(structure="2:4", layer="fc2.weight")
    assert len(asked) == 1


def test_a_slow_scorer_is_waited_for_in_the_open(own_store, monkeypatch):
    open_page("scorers", **PAGE)
    scorer_source._board.clear()
    monkeypatch.setattr(scorer_source, "PATIENCE", 0.0)
    app = open_page("scorers", **PAGE)
    assert not app.exception
    assert "Looking at the model" in texts(app) or "is being scored" in texts(app)


def test_python_makes_the_same_units_and_masks(own_store):
    structure = STRUCTURES.make("out-channel")
    found: dict = {}
    exec(scores_python("digits-mlp", "fc2.weight", ["magnitude", "wanda"], structure, 0.5), found)
    recipe = Recipe(0.5, scorer=SCORERS.make("wanda"), structure=structure)
    *_, last = run(load_task("digits-mlp"), recipe)
    assert (found["masks"]["wanda"] == last.pruning.masks["fc2.weight"]).all()


def test_zeros_stand_apart_on_a_log_axis():
    values = np.array([0.0, 0.0, 0.0, 1e-6, 1e-3, 1e-2, 0.1, 1.0, 1.0])
    chosen = values > 1e-3
    found = histogram(values, chosen)
    assert (found.axis, found.zeros, found.negative) == ("log", 3, 0)
    at_zero = found.bars[found.bars["right"] < 1e-6]
    assert list(at_zero["units"]) == [3]
    assert list(at_zero["part"]) == ["pruned"]
    assert (at_zero["left"] < found.zero).all()
    assert found.bars["units"].sum() == 9
    assert found.bars.loc[found.bars["part"] == "kept", "units"].sum() == 4
    assert cut(values, chosen) == 1e-2


def test_negative_scores_have_their_side():
    values = np.array([-5.0, -1e-4, 0.0, 1e-4, 1e-3, 2e-3, 3.0])
    found = histogram(values, values > 0)
    assert (found.axis, found.zeros, found.negative) == ("symlog", 1, 2)
    assert found.bars["units"].sum() == 7
    assert found.bars["left"].min() == pytest.approx(-5)
    assert found.ticks == sorted(found.ticks)
    assert 0.0 in found.ticks


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [2.0, 2.0, 2.0], [1e-30, 1.0, 1.0, 1e-25]])
def test_odd_scores_are_all_counted(values):
    values = np.array(values)
    found = histogram(values, np.zeros(len(values), dtype=bool))
    assert found.bars["units"].sum() == len(values)


def test_a_cut_is_one_score_or_none():
    values = np.array([1.0, 2.0, 2.0, 3.0])
    assert cut(values, np.array([False, True, False, True])) == 2.0  # a tie, parted by place
    assert cut(values, np.array([True, False, False, True])) is None  # groups: no single score
    assert cut(values, np.ones(4, dtype=bool)) is None


def test_ranks_share_ties_and_constants_have_no_correlation():
    assert list(ranks(np.array([3.0, 1.0, 2.0, 2.0]))) == [100, 0, 50, 50]
    table = correlations({"a": np.arange(4.0), "b": -np.arange(4.0), "c": np.ones(4)})
    assert table.loc["a", "b"] == pytest.approx(-1)
    assert math.isnan(table.loc["a", "c"])
