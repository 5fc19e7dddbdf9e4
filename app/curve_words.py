"""A curve's plan as words that anybody can run: commands, or a few lines of Python."""

from collections.abc import Sequence
from dataclasses import replace
from pprint import pformat

from sparsity_core.curve import CurvePlan
from sparsity_core.errors import SparsityError
from sparsity_core.recipe import STAGES, Recipe, Training
from sparsity_core.repairs import repairs_from, repairs_label


def curve_command(plan: CurvePlan) -> str:
    """One command a recipe; together they measure the same points."""
    setting = plan.setting
    shared = (
        f"--sparsities {','.join(map(repr, plan.sparsities))} "
        f"--seeds {','.join(map(str, plan.seeds))} --split {setting.split} "
        f"--samples {setting.samples} --score-samples {setting.score_samples} "
        f"--device {setting.device}"
    )
    families: dict[Recipe, list[Recipe]] = {}
    for recipe in plan.recipes:
        base = replace(recipe, training=None, shuffled=False, rescore=True)
        families.setdefault(base, []).append(recipe)
    return "\n".join(
        f"sparsity curve {plan.model} {_options(base, family)} {shared}"
        if _can_be_said(base, family)
        else f"# {base.digest}: this recipe has more than a command can say; use the Python below"
        for base, family in families.items()
    )


def curve_python(plan: CurvePlan) -> str:
    """The Python that measures the same points."""
    recipes = ",\n    ".join(
        f"Recipe.from_dict({_indented(recipe.to_dict())})" for recipe in plan.recipes
    )
    setting = plan.setting
    return f"""from sparsity_core.curve import plan_curve
from sparsity_core.recipe import Recipe
from sparsity_core.task import load_task

task = load_task({plan.model!r})
recipes = [
    {recipes},
]
plan = plan_curve(
    task,
    recipes=recipes,
    sparsities={list(plan.sparsities)!r},
    seeds={list(plan.seeds)!r},
    split={setting.split!r},
    samples={setting.samples},
    score_samples={setting.score_samples},
    device={setting.device!r},
)
rows = list(plan.run(task, plan.points()))"""


def _options(base: Recipe, family: Sequence[Recipe]) -> str:
    words = [f"--{stage} {_word(base, stage)}" for stage in STAGES]
    if rounds := getattr(base.schedule, "rounds", None):
        words.append(f"--rounds {rounds}")
    words.append(f"--repair {repairs_label(base.repair).replace(' ', '') or 'none'}")
    if base.skip:
        words.append(f"--skip {','.join(base.skip)}")
    tuned = next((recipe.training for recipe in family if recipe.training), None)
    words.append(f"--finetune-epochs {tuned.epochs if tuned else 0}")
    words += [f"--rate {tuned.rate!r}"] if tuned else []
    if any(recipe.shuffled for recipe in family):
        words.append("--shuffled")
    if not all(recipe.rescore for recipe in family):
        words.append("--scored-once")
    return " ".join(words)


def _word(recipe: Recipe, stage: str) -> str:
    choice = getattr(recipe, stage)
    registry = STAGES[stage]
    return registry.kind_of(choice) if stage == "schedule" else registry.label(choice)


def _can_be_said(base: Recipe, family: Sequence[Recipe]) -> bool:
    """Does the command have an option for all that the recipes say?"""
    tuned = {recipe.training for recipe in family if recipe.training}
    if len(tuned) > 1 or any(t != Training(epochs=t.epochs, rate=t.rate) for t in tuned):
        return False
    try:
        return repairs_from(repairs_label(base.repair)) == base.repair and all(
            STAGES[stage].make(_word(base, stage)) == getattr(base, stage)
            for stage in STAGES
            if stage != "schedule"
        )
    except SparsityError:
        return False


def _indented(data: dict[str, object]) -> str:
    return pformat(data, width=92, sort_dicts=False).replace("\n", "\n" + " " * 21)
