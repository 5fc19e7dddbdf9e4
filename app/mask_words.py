"""The masks on screen as Python that anybody can run."""

from pprint import pformat

from app.mask_source import Masked


def masks_python(model: str, shown: list[Masked], layer: str) -> str:
    """The Python that makes the same masks, one name a recipe: mask_a, mask_b."""
    parts = [
        "from sparsity_core.recipe import Recipe",
        "from sparsity_core.rounds import run",
        "from sparsity_core.task import load_task",
        "",
        f"task = load_task({model!r})",
    ]
    for letter, one in zip("ab", shown, strict=False):
        recipe = pformat(one.recipe.to_dict(), width=96, sort_dicts=False)
        parts += [
            f"recipe = Recipe.from_dict(\n{recipe}\n)",
            f"*_, last = run(task, recipe, seed={one.seed})",
            f"mask_{letter} = last.pruning.masks[{layer!r}]  # True = kept",
        ]
    return "\n".join(parts)
