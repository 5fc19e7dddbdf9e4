"""A recipe carried out on a whole model, round by round."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.prune import Pruning, prune
from sparsity_core.recipe import Recipe
from sparsity_core.repairs import REPAIRS, Damage
from sparsity_core.schedules import SCHEDULES
from sparsity_core.setting import draw_batches
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import Task
from sparsity_core.train import train_
from sparsity_core.weights import Masks, Scores, mask_


@dataclass(frozen=True, eq=False)
class Round:
    """The model after one round; later rounds do not change it."""

    number: int  # from 1
    rounds: int
    sparsity: float  # the round's target
    model: nn.Module
    pruning: Pruning  # its masks are those after repair
    unrepaired: dict[str, str]  # layers that a repair left as they were -> why
    losses: tuple[float, ...]  # mean training loss of each fine-tuning epoch


def run(
    task: Task,
    recipe: Recipe,
    *,
    seed: int = 0,
    score_samples: int = 512,
    device: str = "cpu",
) -> Iterator[Round]:
    """Prune to each target of the recipe's schedule, and fine-tune after each when it says so.

    The task's model is not changed. `seed` decides the samples that score, random scores and the
    order of training. Raises SparsityError for a recipe that cannot be met.
    """
    targets = recipe.schedule.targets(recipe.sparsity)
    if recipe.structure.fixed_sparsity is not None and len(targets) > 1:
        raise SparsityError(
            f"{STRUCTURES.label(recipe.structure)} has one sparsity only and cannot be reached in "
            f"{len(targets)} rounds of {SCHEDULES.label(recipe.schedule)}; choose one-shot"
        )
    model = copy.deepcopy(task.model).to(device)
    batches = draw_batches(task.train, score_samples, seed, device)
    masks: Masks = {}
    scores: Scores | None = None
    for number, target in enumerate(targets, start=1):
        pruning = prune(Probe(model, batches, task.loss, masks, seed), recipe, target, scores)
        scores = None if recipe.rescore else pruning.scores
        before = copy.deepcopy(model) if recipe.repair else model
        mask_(model, pruning.masks)
        unrepaired: dict[str, str] = {}
        for repair in recipe.repair:
            damage = Damage(before, pruning.masks, recipe.structure, batches)
            masks, failed = repair.repair_(model, damage)
            pruning = replace(pruning, masks=masks)
            kind = REPAIRS.kind_of(repair)
            unrepaired |= {name: f"{kind}: {why}" for name, why in failed.items()}
        masks = pruning.masks
        losses: list[float] = []
        if recipe.training:
            losses = train_(
                model,
                task.train,
                recipe.training,
                loss=task.loss,
                masks=masks,
                seed=seed,
                device=device,
            )
        yield Round(
            number, len(targets), target, copy.deepcopy(model), pruning, unrepaired, tuple(losses)
        )
