"""The Kernels page: the finished example, its forms, a job, another machine."""

import pytest
from streamlit.testing.v1 import AppTest

from app import cache, kernel_source
from app.kernel_run import formats_of, view_of
from app.reopen import link_of
from sparsity_core.kernels.latency import plan_latency
from sparsity_core.kernels.plan import plan_kernels
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS
from sparsity_core.task import load_task
from tests.app_session import MAIN, open_page, own_store, texts, wait_for_jobs
from tests.test_kernel_charts import example, layer

__all__ = ["example", "layer", "own_store"]

TINY = {
    "kernels-shape": "8x32",
    "kernels-levels": ["90"],
    "kernels-batches": ["1"],
    "kernels-repeats": "1",
}


def test_first_open_shows_the_example_and_its_machine(own_store, monkeypatch):
    page = open_page("kernels")
    assert not page.exception
    shown = texts(page)
    assert "At 90 % this layer runs" in shown
    assert "needs a GPU" in shown
    assert "finished example" in shown
    assert "Model, not measured" in shown or "RAPL" in shown
    monkeypatch.setattr(kernel_source, "cpu_label", lambda: "Some other CPU")
    warned = "\n".join(str(w.value) for w in page.run().warning)
    assert "**another machine**" in warned
    assert "This machine is Some other CPU" in warned
    for view in ("Whole model", "Break-even map"):
        page = open_page("kernels", **{"kernels-view": view})
        assert not page.exception, view
        assert "another machine" in "\n".join(str(w.value) for w in page.warning)
    assert "stays ahead of the quickest float32 dense" in texts(page)


def test_a_job_is_run_and_its_rows_are_shown_and_found_again(own_store):
    page = open_page("kernels", **TINY)
    (start,) = [button for button in page.button if button.label.startswith("Time 13 new")]
    start.click().run()
    wait_for_jobs()
    page = open_page("kernels", **TINY)
    assert not page.exception
    assert any(button.label == "All 13 points are stored" for button in page.button)
    shown = texts(page)
    assert "Linear 32 to 8 at 90 % zeros, batch 1" in shown
    assert "Timed on this machine" in shown
    (run,) = cache.store().runs()
    assert view_of(cache.store().plan(run.id))["kernels-shape"] == "8x32"
    runs = open_page("runs", run=run.id[:8])
    assert not runs.exception
    assert "Linear 32 to 8" in texts(runs)


def test_a_whole_model_is_timed_layer_by_layer(own_store):
    link = {"model": "digits-mlp", "kernels-view": "Whole model", "latency-batches": "2"}
    page = open_page("kernels", **link)
    (start,) = [button for button in page.button if button.label.startswith("Time 4 new")]
    start.click().run()
    wait_for_jobs()
    page = open_page("kernels", **link)
    assert not page.exception
    shown = texts(page)
    assert "digits-mlp with 50 % zeros at batch 2" in shown
    assert "of 3 masked layers run packed" in shown
    assert "Where the gain went" in shown
    runs = open_page("runs", run=cache.store().runs()[0].id[:8])
    assert not runs.exception


def _planned(place):
    tiny = {"sparsities": [0.5], "batches": [1], "repeats": 1}
    task = load_task("digits-mlp")
    recipe = Recipe(0.75, SCORERS.make("taylor"), skip=("fc3.weight",))
    return (
        lambda: plan_kernels(shapes=[(8, 32)], kernels=["tiled"], **tiny),
        lambda: plan_kernels(task, "fc1.weight", caches=["hot", "cold"], **tiny),
        lambda: plan_kernels(shapes=[(8, 32), (32, 8)], kernels=["csr", "tiled"], **tiny),
        lambda: plan_latency(task, recipe, batches=[3], fold=False),
    )[place]()


@pytest.mark.parametrize("place", range(4))
def test_a_stored_plan_fills_the_form(own_store, place):
    plan = _planned(place)
    recipe = {"scorer": "taylor", "sparsity": "75", "skip": "fc3.weight"}
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for name, value in ({"model": "digits-mlp"} | recipe | link_of(view_of(plan))).items():
        app.query_params[name] = value
    for name, value in ({} if place == 3 else formats_of(plan)).items():
        app.session_state[name] = value
    app.switch_page("../pages/kernels.py").run()
    assert not app.exception
    app.button(key="start").click().run()
    for job in cache.queue().jobs():
        job.cancel()
    assert cache.queue().get(plan.digest) is not None


def test_a_recipe_that_the_sidebar_cannot_say_does_not_reopen():
    task = load_task("digits-mlp")
    assert view_of(plan_latency(task, Recipe(0.123))) is None
    assert view_of(plan_latency(task, Recipe(0.5), seed=1)) is None


def test_wrong_choices_are_said(own_store):
    page = open_page("kernels", **{"kernels-shape": "768"})
    assert "is no shape" in texts(page)
    link = {"kernels-what": "A layer of the model", "layer": "fc1.weight"}
    page = open_page("kernels", **link)
    assert not page.exception
    assert any("new points" in button.label for button in page.button)
