"""A stored run again: its view in the form, and the words that measure it."""

import json
from dataclasses import asdict, replace

import pytest

from app import cache
from app.reopen import link_of, view_of
from sparsity_core.allocations import Sensitivity
from sparsity_core.controls import with_controls
from sparsity_core.curve import plan_curve
from sparsity_core.recipe import Recipe, Training
from sparsity_core.repairs import repairs_from
from sparsity_core.schedules import SCHEDULES
from sparsity_core.scorers import SCORERS
from sparsity_core.store import Store
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task
from tests.app_session import open_page, own_store
from tests.test_app_runs import FEW, stored

__all__ = ["own_store"]


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


def plans(task):
    many = {"sparsities": [0.5, 0.29, 1 / 3], "seeds": [0, 1], "samples": 50, "device": "cpu"}
    few = many | {"sparsities": [0.29, 0.5, 0.975]}
    make = {"2:4": STRUCTURES.make("2:4"), "geometric": SCHEDULES.make("geometric", rounds=3)}
    base = Recipe(scorer=SCORERS.make("taylor"))
    partly = Recipe(skip=("last", "fc1.weight"))
    tuned = Training(epochs=2, rate=0.05)
    return [
        plan_sweep(task, scorers=["taylor", "random"], structures=["2:4", "8x1"], **few),
        plan_sweep(task, layers=["fc2", "fc1"], split="test", score_samples=77, **few),
        plan_curve(task, recipes=[base], **many),
        plan_curve(task, recipes=[partly, replace(partly, scorer=base.scorer)], **many),
        plan_curve(
            task,
            recipes=[
                replace(base, **change, training=training)
                for training in (None, tuned)
                for change in ({}, {"structure": make["2:4"]}, {"schedule": make["geometric"]})
            ],
            **many,
        ),
        plan_curve(
            task,
            recipes=[
                Recipe(scorer=SCORERS.make(scorer), structure=STRUCTURES.make(structure))
                for scorer in ("magnitude", "wanda", "random")
                for structure in ("unstructured", "out-channel")
            ],
            **many,
        ),
        plan_curve(
            task,
            recipes=with_controls(
                [
                    base,
                    replace(base, schedule=SCHEDULES.make("synflow-exponential")),
                    replace(base, repair=repairs_from("least-squares + bias-correction")),
                ],
                random=False,
                shuffled=True,
                scored_once=True,
            ),
            **many,
        ),
    ]


@pytest.mark.parametrize("number", range(7))
def test_the_view_of_a_run_plans_the_same_points(own_store, task, number):
    plan = plans(task)[number]
    view = view_of(plan, list(dict.fromkeys(["fc1.weight", "fc2.weight", "fc3.weight"])))
    assert view is not None
    page = {"sweep": "sensitivity", "curve": "tradeoff"}[plan.kind]
    first = plan.scorers[0] if plan.kind == "sweep" else plan.recipes[0].scorer
    structure = plan.structures[0] if plan.kind == "sweep" else plan.recipes[0].structure
    sidebar = {"scorer": SCORERS.label(first), "structure": STRUCTURES.label(structure)}
    sidebar["skip"] = list(plan.recipes[0].skip) if plan.kind == "curve" else []
    app = open_page(page, model="digits-mlp", device="cpu", **sidebar, **link_of(view))
    app.number_input(key=f"{plan.kind}-samples digits-mlp {plan.setting.split}").set_value(50).run()
    assert not app.exception
    assert not app.error
    app.button(key="start").click().run()
    for job in cache.queue().jobs():
        job.cancel()
    (job,) = cache.queue().jobs()
    assert {point.id for point in job.plan.points()} == {point.id for point in plan.points()}


def test_what_the_form_cannot_say_is_not_promised(task):
    every = {"sparsities": [0.5], "device": "cpu"}
    odd = [
        plan_sweep(task, seeds=[3], **every),
        plan_sweep(task, sparsities=[1 / 3], device="cpu"),
        plan_curve(task, recipes=[Recipe(schedule=SCHEDULES.make("cubic"))], **every),
        plan_curve(
            task,
            recipes=[Recipe(), Recipe(schedule=SCHEDULES.make("synflow-exponential", rounds=7))],
            **every,
        ),
        plan_curve(task, recipes=[Recipe(repair=repairs_from("least-squares"))], **every),
        plan_curve(
            task,
            recipes=[Recipe(), Recipe(allocation=Sensitivity((("fc1.weight", ((0.9, 1.0),)),)))],
            **every,
        ),
        plan_curve(task, recipes=[Recipe(training=Training(epochs=1, momentum=0.5))], **every),
        plan_curve(
            task,
            recipes=[
                Recipe(),
                Recipe(scorer=SCORERS.make("taylor"), structure=STRUCTURES.make("2:4")),
            ],
            **every,
        ),
    ]
    assert [view_of(plan, []) for plan in odd] == [None] * len(odd)


def test_the_words_of_a_run_measure_it_again(own_store, task):
    plan = stored(own_store, plan_sweep(task, **FEW), task)
    app = open_page("runs", run=plan.digest[:8])
    python = next(
        c.value for c in app.code if c.value.startswith("from") and "plan_sweep" in c.value
    )
    made: dict = {}
    exec(python, made)
    again = [asdict(row) | {"seconds": 0} for row in made["rows"]]
    rows = [asdict(row) | {"seconds": 0} for row in Store(own_store).rows(plan)]
    assert json.dumps(again) == json.dumps(rows)
