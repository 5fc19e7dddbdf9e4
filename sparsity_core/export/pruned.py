"""A recipe carried out for good: the model that is left, its masks, and what it is worth."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.checkpoint import UnderWay
from sparsity_core.comparison import Comparison, compare
from sparsity_core.compress.shrink import Shrunk, shrink
from sparsity_core.cost import Cost, cost
from sparsity_core.errors import SparsityError
from sparsity_core.kernels.timing import Times, interleaved, on_threads
from sparsity_core.machine import resolve_device
from sparsity_core.recipe import Recipe
from sparsity_core.rounds import run
from sparsity_core.task import Task
from sparsity_core.train import evaluate
from sparsity_core.weights import Masks, Sparsities

_REPEATS = 15
_COMPARED = 16  # samples that a shrunk model has to say the same of


@dataclass(frozen=True, eq=False)
class Pruned:
    """A task's model after a recipe, on the CPU."""

    task: Task
    recipe: Recipe
    seed: int
    score_samples: int
    device: str  # that it was pruned, trained and measured on
    split: str  # that was measured
    model: nn.Module
    masks: Masks
    achieved: Sparsities
    skipped: dict[str, str]  # layers that stay dense -> why
    unrepaired: dict[str, str]
    comparison: Comparison
    dense_cost: Cost
    cost: Cost


def carry_out(
    task: Task,
    recipe: Recipe,
    *,
    seed: int = 0,
    score_samples: int = 512,
    split: str = "test",
    device: str = "auto",
    under_way: UnderWay | None = None,
) -> Pruned:
    """Prune (and fine-tune) a copy of the task's model and measure it beside the dense one.

    `under_way` as for `run`: whoever has taken the model away deletes it. Raises SparsityError for
    a recipe that cannot be met, and one that empties a layer.
    """
    device = resolve_device(device)
    if reason := recipe.structure.refuses(recipe.sparsity):
        raise SparsityError(reason)
    how: dict[str, Any] = {"seed": seed, "score_samples": score_samples, "device": device}
    *_, last = run(task, recipe, **how, under_way=under_way)
    if emptied := last.pruning.emptied:
        raise SparsityError(
            f"no weight is left in {', '.join(emptied)}, so the model has collapsed; choose a "
            "lower sparsity or leave the layer out with `skip`"
        )
    samples = task.split(split)
    measured = [
        evaluate(model.to(device), samples, loss=task.loss, metric=task.metric, device=device)
        for model in (task.model, last.model)
    ]
    task.model.cpu()
    model = last.model.cpu().eval()
    sample = samples.inputs[:1]
    return Pruned(
        task=task,
        recipe=recipe,
        seed=seed,
        score_samples=score_samples,
        device=device,
        split=split,
        model=model,
        masks={name: mask.cpu() for name, mask in last.pruning.masks.items()},
        achieved=last.pruning.achieved,
        skipped=last.pruning.skipped,
        unrepaired=last.unrepaired,
        comparison=compare(*measured),
        dense_cost=cost(task.model, sample),
        cost=cost(model, sample),
    )


def shrunk(pruned: Pruned) -> Shrunk:
    """The pruned model without its idle channels, compared on samples of the measured split."""
    inputs = pruned.task.split(pruned.split).inputs
    return shrink(pruned.model, inputs[:_COMPARED])


def speeds(
    models: dict[str, nn.Module], sample: Tensor, *, threads: int = 1, repeats: int = _REPEATS
) -> dict[str, Times]:
    """Seconds of a forward pass of each model, taken in turns; `sample` is one batch (N, ...)."""

    def call(model: nn.Module) -> list[object]:
        return [lambda: model(sample)]

    with torch.no_grad(), on_threads(threads):
        calls = {name: call(model) for name, model in models.items()}
        return interleaved(calls, repeats)  # type: ignore[arg-type]
