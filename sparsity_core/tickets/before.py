"""Masks that are found before any training, as sparse as the ticket's of a round."""

from dataclasses import replace
from typing import TYPE_CHECKING

from sparsity_core.allocations import Global
from sparsity_core.recipe import Recipe
from sparsity_core.rounds import run
from sparsity_core.schedules import SCHEDULES
from sparsity_core.scorers import SCORERS
from sparsity_core.task import Task
from sparsity_core.tickets.arm import ARMS
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.weights import Masks, prunable

if TYPE_CHECKING:
    from sparsity_core.tickets.plan import TicketPlan, TicketPoint


def masks_before_training(task: Task, plan: "TicketPlan", point: "TicketPoint") -> Masks:
    """What the arm's scorer keeps of the first weights, in one ranking over all layers.

    It sees the setting's samples that score, drawn by the seed.
    """
    arm = ARMS[point.arm]
    model = fresh_model(task, point.seed)
    parameters = dict(model.named_parameters())
    weights = {name: parameters[name] for name in prunable(model)}
    masks: Masks = {}
    for _ in range(point.round):  # how many stay follows from the rule, whatever the weights are
        masks = plan.rule.masks(weights, masks)
    kept = sum(int(mask.sum()) for mask in masks.values())
    recipe = Recipe(
        1 - kept / sum(weight.numel() for weight in weights.values()),
        SCORERS.make(arm.scorer),
        allocation=Global(),
        schedule=SCHEDULES.make(arm.schedule),
    )
    options = {"seed": point.seed, "device": plan.device}
    samples = plan.setting.score_samples
    *_, last = run(replace(task, model=model), recipe, score_samples=samples, **options)  # type: ignore[arg-type]
    return last.pruning.masks
