"""What the Trade-off page compares: variants, their names, commands, and curves drawn."""

import shlex
from dataclasses import replace

import pandas as pd
import pytest

from app.curve_names import in_common, label, names, stages
from app.curve_variants import variants
from app.curve_words import curve_command, curve_python
from app.tradeoff_charts import AXES, curves, frame_of, summary
from sparsity_core.allocations import ALLOCATIONS, Manual
from sparsity_core.cli import measure
from sparsity_core.cli.main import main
from sparsity_core.controls import with_controls, with_random
from sparsity_core.curve import plan_curve
from sparsity_core.recipe import Recipe, Training
from sparsity_core.repairs import repairs_from
from sparsity_core.schedules import SCHEDULES
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task
from sparsity_core.variants import with_training


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


def choices(**kinds):
    stages = {
        "scorer": SCORERS,
        "structure": STRUCTURES,
        "allocation": ALLOCATIONS,
        "schedule": SCHEDULES,
    }
    return {name: [reg.make(k) for k in kinds.get(name, [])] for name, reg in stages.items()}


@pytest.fixture(scope="module")
def measured(task):
    """A plan with a random baseline, a structure of one sparsity, two seeds; and its rows."""
    base = Recipe()
    recipes = with_random(variants(base, choices(structure=["2:4"]), crossed=False))
    plan = plan_curve(
        task, recipes=recipes, sparsities=[0.5, 0.9, 1.0], seeds=[0, 1], samples=100, device="cpu"
    )
    return plan, list(plan.run(task, plan.points()))


def test_one_choice_changes_at_a_time_or_all_are_combined():
    base = Recipe()
    others = choices(scorer=["taylor", "wanda"], structure=["2:4"])
    single = variants(base, others, crossed=False)
    assert [(type(r.scorer).__name__, STRUCTURES.label(r.structure)) for r in single] == [
        ("Magnitude", "unstructured"),
        ("Taylor", "unstructured"),
        ("Wanda", "unstructured"),
        ("Magnitude", "2:4"),
    ]
    assert len(variants(base, others, crossed=True)) == 3 * 2
    assert variants(base, others, crossed=True)[0] == base
    assert variants(base, choices(scorer=["magnitude"]), crossed=True) == [base]


def test_a_random_baseline_for_each_recipe_but_never_twice():
    recipes = variants(Recipe(), choices(scorer=["taylor"], structure=["2:4"]), crossed=False)
    random = SCORERS.make("random")
    added = with_random(recipes)[len(recipes) :]
    assert {recipe.structure for recipe in added} == {r.structure for r in recipes}
    assert len(added) == 2
    assert all(recipe.scorer == random for recipe in added)


def test_fine_tuning_comes_besides_and_no_epochs_are_none():
    recipes = [Recipe(), Recipe(scorer=SCORERS.make("taylor"))]
    assert with_training(recipes, Training(epochs=0)) == recipes
    both = with_training(recipes, Training(epochs=2))
    assert both == [*recipes, *(replace(r, training=Training(epochs=2)) for r in recipes)]


def test_curves_are_named_by_what_differs(task):
    recipes = variants(Recipe(), choices(scorer=["taylor"], allocation=["erk"]), crossed=False)
    plan = plan_curve(task, recipes=with_training(recipes, Training(epochs=1)))
    assert set(names(plan).values()) == {
        "magnitude · uniform",
        "taylor · uniform",
        "magnitude · erk",
    }
    assert in_common(plan) == "structure unstructured, schedule one-shot"
    assert set(stages(plan).values()) == {"as pruned", "fine-tuned, epochs a round: 1"}


def test_recipes_that_differ_in_skipped_layers_or_rate_are_different_curves(task):
    tuned = [Training(epochs=1, rate=rate) for rate in (0.01, 0.1)]
    recipes = [Recipe(), Recipe(skip=("last",)), *(Recipe(training=t) for t in tuned)]
    plan = plan_curve(task, recipes=recipes)
    assert len({(names(plan)[r], stages(plan)[r]) for r in plan.recipes}) == len(plan.recipes)


def test_repairs_and_scores_made_once_are_in_the_names(task):
    recipes = variants(Recipe(), {"repair": [repairs_from("sparsegpt+batch-norm")]}, crossed=False)
    cubic = Recipe(schedule=SCHEDULES.make("cubic"))
    plan = plan_curve(task, recipes=[*recipes, cubic, replace(cubic, rescore=False)])
    assert list(names(plan).values()) == [
        "one-shot · none",
        "one-shot · sparsegpt + batch-norm",
        "cubic · none",
        "cubic, scored once · none",
    ]
    assert label(recipes[1]).endswith("one-shot · mended by sparsegpt + batch-norm")


def test_commands_measure_the_points_of_the_plan(task, monkeypatch):
    others = choices(
        scorer=["taylor"], structure=["2:4", "8x1"], allocation=["global"], schedule=["geometric"]
    )
    others["repair"] = [repairs_from("least-squares + bias-correction")]
    recipes = with_controls(
        variants(Recipe(), others, crossed=False), random=True, shuffled=True, scored_once=True
    )
    plan = plan_curve(
        task,
        recipes=with_training(recipes, Training(epochs=2, rate=0.02)),
        sparsities=[0.5, 1 / 3],
        seeds=[0, 1],
        split="test",
        samples=50,
        score_samples=99,
        device="cpu",
    )
    planned = []
    monkeypatch.setattr(measure, "execute", lambda found, *_: planned.append(found) or 0)
    for line in curve_command(plan).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "sparsity"
        assert main(arguments) == 0
    points = {point.id for found in planned for point in found.points()}
    assert points == {point.id for point in plan.points()}


def test_what_a_command_cannot_say_is_said_to_be_so(task):
    manual = Recipe(allocation=Manual((("fc1.weight", 0.5),)))
    command = curve_command(plan_curve(task, recipes=[manual, Recipe()], device="cpu"))
    assert command.splitlines()[0].startswith("#")
    assert command.splitlines()[1].startswith("sparsity curve digits-mlp --scorer magnitude")


def test_python_makes_the_same_plan(measured):
    plan, _ = measured
    found: dict = {}
    exec(curve_python(plan).rpartition("\n")[0], found)
    assert found["plan"].digest == plan.digest


def test_means_and_spread_are_those_of_the_seeds(measured):
    plan, rows = measured
    table = frame_of(rows, plan)
    means = summary(table).set_index(["curve", "sparsity"])
    own = [r for r in rows if r.scorer == "random" and r.structure == "unstructured"]
    half = [100 * r.value for r in own if r.sparsity == 0.5]
    row = means.loc[("random · unstructured", 50)]
    assert len(half) == 2
    assert row["value"] == pytest.approx(sum(half) / 2)
    assert (row["low"], row["high"]) == pytest.approx((min(half), max(half)))
    assert row["deviation"] == pytest.approx(abs(half[0] - half[1]) / 2**0.5)
    assert row["seeds"] == 2


def test_one_seed_shows_the_paired_interval(measured):
    plan, rows = measured
    first = [row for row in rows if row.seed == 0]
    means = summary(frame_of(first, plan)).set_index(["curve", "sparsity"])
    row = next(r for r in first if r.scorer == "magnitude" and r.sparsity == 0.5)
    shown = means.loc[("magnitude · unstructured", 50)]
    assert shown["low"] == pytest.approx(100 * (row.dense_value - row.drop_high))
    assert shown["high"] == pytest.approx(100 * (row.dense_value - row.drop_low))
    assert shown["low"] <= shown["value"] <= shown["high"]


@pytest.mark.parametrize("axis", AXES)
def test_points_without_a_sound_number_are_crosses_and_in_no_line(measured, axis):
    plan, rows = measured
    assert {row.status for row in rows} == {"ok", "skipped", "collapsed"}
    table = frame_of(rows, plan)
    spec = curves(table, axis, plan, list(dict.fromkeys(names(plan).values()))).to_dict()

    def drawn(kind):
        return [
            row
            for layer in spec["layer"]
            if layer["mark"].get("type") == kind and layer["mark"].get("text", "×") == "×"
            for row in spec["datasets"][layer["data"]["name"]]
        ]

    crosses = [row for row in drawn("text") if "point_id" in row and row["status"] != "ok"]
    expected = [row.point_id for row in rows if row.status != "ok"]
    assert sorted(row["point_id"] for row in crosses) == sorted(expected)
    assert all(row["message"] for row in crosses)
    lines = pd.DataFrame(drawn("line"))
    sound = {(r.scorer, r.structure, r.sparsity) for r in rows if r.status == "ok"}
    assert len(lines) == len(sound)
