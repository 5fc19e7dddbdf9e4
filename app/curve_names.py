"""What the curves of a plan are called: by what differs between them, and nothing else."""

from sparsity_core.allocations import Manual, Sensitivity
from sparsity_core.curve import CurvePlan
from sparsity_core.recipe import STAGES, Recipe
from sparsity_core.repairs import repairs_label

_NONE = "none"


def label(recipe: Recipe) -> str:
    """The choices of a recipe in one line."""
    words = [_word(recipe, stage) for stage in STAGES]
    words += [f"mended by {repairs_label(recipe.repair)}"] if recipe.repair else []
    words += [f"dense: {', '.join(recipe.skip)}"] if recipe.skip else []
    return " · ".join(words)


def names(plan: CurvePlan) -> dict[Recipe, str]:
    """The name of each of the plan's recipes; fine-tuned or not makes no difference."""
    differing = _differing(plan)
    return {
        recipe: " · ".join(_parts(recipe)[part] for part in differing) for recipe in plan.recipes
    }


def in_common(plan: CurvePlan) -> str:
    """The choices that all curves share, which their names leave out."""
    differing = _differing(plan)
    shared = _parts(plan.recipes[0])
    return ", ".join(
        f"{part} {text}" for part, text in shared.items() if part not in differing and text != _NONE
    )


def stages(plan: CurvePlan) -> dict[Recipe, str]:
    """As pruned, or how each of the plan's recipes is fine-tuned."""
    several_rates = len({r.training.rate for r in plan.recipes if r.training}) > 1
    found = {}
    for recipe in plan.recipes:
        found[recipe] = "as pruned"
        if recipe.training and recipe.training.epochs:
            found[recipe] = f"fine-tuned, epochs a round: {recipe.training.epochs}"
            if several_rates:
                found[recipe] += f", rate {recipe.training.rate:g}"
    return found


def _parts(recipe: Recipe) -> dict[str, str]:
    parts = {stage: _word(recipe, stage) for stage in STAGES}
    return parts | {
        "repair": repairs_label(recipe.repair) or _NONE,
        "dense layers": ", ".join(recipe.skip) or _NONE,
    }


def _word(recipe: Recipe, stage: str) -> str:
    """The shortest text for a choice; what holds something for every layer goes by its kind."""
    choice = getattr(recipe, stage)
    if isinstance(choice, Manual | Sensitivity):
        return STAGES[stage].kind_of(choice)
    text = STAGES[stage].label(choice)
    if stage == "scorer" and recipe.shuffled:
        return f"{text}, shuffled"
    return f"{text}, scored once" if stage == "schedule" and not recipe.rescore else text


def _differing(plan: CurvePlan) -> list[str]:
    """The choices in which recipes differ; the scorer when they do not."""
    every = [_parts(recipe) for recipe in plan.recipes]
    found = [part for part in every[0] if len({parts[part] for parts in every}) > 1]
    return found or ["scorer"]
