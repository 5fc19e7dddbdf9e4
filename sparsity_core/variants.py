"""What a curve shows of a recipe besides itself: statistics measured anew, and a brief fine-tune.

Half of the collapse that people see is stale statistics, so this is what is shown unless a person
asks for something else, in the app and by the command.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparsity_core.recipe import Recipe, Training
from sparsity_core.repairs import BatchNorm, Repair

BRIEF = Training(epochs=1, rate=0.01)  # after each round


def usual_repairs(model: nn.Module) -> list[tuple[Repair, ...]]:
    """None, and batch norms measured anew where pruning makes their statistics stale."""
    stale = any(isinstance(m, _BatchNorm) and m.track_running_stats for m in model.modules())
    return [(), (BatchNorm(),)] if stale else [()]


def usual_training(model: nn.Module) -> Training | None:
    """A brief fine-tune; None for a model whose every parameter is frozen."""
    return BRIEF if any(p.requires_grad for p in model.parameters()) else None


def with_training(recipes: Sequence[Recipe], training: Training | None) -> list[Recipe]:
    """The same recipes as pruned and, when there are epochs, fine-tuned after each round."""
    if training is None or not training.epochs:
        return list(recipes)
    return [*recipes, *(replace(recipe, training=training) for recipe in recipes)]
