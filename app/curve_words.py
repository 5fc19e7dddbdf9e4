"""A curve's plan as words that anybody can run: commands, or a few lines of Python."""

from dataclasses import replace
from pprint import pformat

from app.curve_names import STAGES
from sparsity_core.curve import CurvePlan
from sparsity_core.errors import SparsityError
from sparsity_core.recipe import Recipe, Training


def curve_command(plan: CurvePlan) -> str:
    """One command a recipe; together they measure the same points."""
    setting = plan.setting
    shared = (
        f"--sparsities {','.join(map(repr, plan.sparsities))} "
        f"--seeds {','.join(map(str, plan.seeds))} --split {setting.split} "
        f"--samples {setting.samples} --score-samples {setting.score_samples} "
        f"--device {setting.device}"
    )
    trainings: dict[Recipe, list[Training | None]] = {}
    for recipe in plan.recipes:
        trainings.setdefault(replace(recipe, training=None), []).append(recipe.training)
    return "\n".join(
        f"sparsity curve {plan.model} {_options(recipe, found)} {shared}"
        if _can_be_said(recipe, found)
        else f"# {recipe.digest}: this recipe has more than a command can say; use the Python below"
        for recipe, found in trainings.items()
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


def _options(recipe: Recipe, trainings: list[Training | None]) -> str:
    words = [f"--{stage} {_word(recipe, stage)}" for stage in STAGES]
    if rounds := getattr(recipe.schedule, "rounds", None):
        words.append(f"--rounds {rounds}")
    if recipe.skip:
        words.append(f"--skip {','.join(recipe.skip)}")
    if tuned := next(filter(None, trainings), None):
        words.append(f"--finetune-epochs {tuned.epochs} --rate {tuned.rate!r}")
    return " ".join(words)


def _word(recipe: Recipe, stage: str) -> str:
    choice = getattr(recipe, stage)
    registry = STAGES[stage]
    return registry.kind_of(choice) if stage == "schedule" else registry.label(choice)


def _can_be_said(recipe: Recipe, trainings: list[Training | None]) -> bool:
    """Does the command have an option for all that the recipe says?"""
    if recipe.shuffled or recipe.repair or not recipe.rescore:
        return False
    tuned = [training for training in trainings if training]
    if len(tuned) > 1 or any(t != Training(epochs=t.epochs, rate=t.rate) for t in tuned):
        return False
    try:
        return all(
            STAGES[stage].make(_word(recipe, stage)) == getattr(recipe, stage)
            for stage in STAGES
            if stage != "schedule"
        )
    except SparsityError:
        return False


def _indented(data: dict[str, object]) -> str:
    return pformat(data, width=92, sort_dicts=False).replace("\n", "\n" + " " * 21)
