"""A recipe carried out on a whole model, round by round."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor, nn

from sparsity_core.checkpoint import UnderWay
from sparsity_core.copied import copied
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError
from sparsity_core.probe import Batch, Probe
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
    under_way: UnderWay | None = None,
) -> Iterator[Round]:
    """Prune to each target of the recipe's schedule, and fine-tune after each when it says so.

    The task's model is not changed. `seed` decides the samples that score, random scores and the
    order of training. With `under_way` it begins with the round in which it was saved, and goes on
    there with the same result; its name has to say all that decides that, as `name_of` does. Raises
    SparsityError for a recipe that cannot be met.
    """
    targets = recipe.schedule.targets(recipe.sparsity)
    if recipe.structure.fixed_sparsity is not None and len(targets) > 1:
        raise SparsityError(
            f"{STRUCTURES.label(recipe.structure)} has one sparsity only and cannot be reached in "
            f"{len(targets)} rounds of {SCHEDULES.label(recipe.schedule)}; choose one-shot"
        )
    model = copied(task.model).to(device)
    batches = draw_batches(task.train, score_samples, seed, device)
    masks: Masks = {}
    scores: Scores | None = None
    under_way = under_way or UnderWay()
    begun = _resume_(model, under_way, device)
    for number, target in enumerate(targets, start=1):
        if begun and number < begun.number:
            continue
        cut = begun
        if cut is None:
            probe = Probe(model, batches, task.loss, masks, seed)
            cut = _Cut(number, *_prune_(model, recipe, probe, target, scores, batches))
        begun = None
        masks = cut.pruning.masks
        scores = None if recipe.rescore else cut.pruning.scores
        under_way.along = cut.to_dict()
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
                under_way=under_way,
            )
        elif under_way.due:
            under_way.save_(model=model.state_dict())
        yield Round(
            number,
            len(targets),
            target,
            copied(model),
            cut.pruning,
            cut.unrepaired,
            tuple(losses),
        )


def name_of(task: Task, recipe: Recipe, *, seed: int, score_samples: int, device: str) -> str:
    """A name that runs share when they come to the same."""
    return digest_of(
        {
            "kind": "recipe",
            "model": [task.name, task.model_digest],
            "data": task.train.digest,
            "metric": task.metric.name,
            "recipe": recipe.identity(),
            "seed": seed,
            "score_samples": score_samples,
            "device": device,
        }
    )


@dataclass(frozen=True, eq=False)
class _Cut:
    """A round between its pruning and its training."""

    number: int
    pruning: Pruning
    unrepaired: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain data, for a checkpoint."""
        return {
            "round": self.number,
            "pruning": {f.name: getattr(self.pruning, f.name) for f in fields(Pruning)},
            "unrepaired": self.unrepaired,
        }


def _resume_(model: nn.Module, under_way: UnderWay, device: str) -> _Cut | None:
    """The round in which a process that died was; its training is left for `train_` to find."""
    found = under_way.found
    if not found:
        return None
    with under_way.reading():
        parts: dict[str, Any] = {
            part: _on_device(found["pruning"][part], device) if part in _TENSORS else value
            for part, value in found["pruning"].items()
        }
        if "place" not in found:
            model.load_state_dict(found["model"])
        return _Cut(found["round"], Pruning(**parts), found["unrepaired"])


def _on_device(tensors: dict[str, Tensor], device: str) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


_TENSORS = ("scores", "units", "masks")  # of a Pruning


def _prune_(
    model: nn.Module,
    recipe: Recipe,
    probe: Probe,
    target: float,
    scores: Scores | None,
    batches: list[Batch],
) -> tuple[Pruning, dict[str, str]]:
    """Mask a model and mend it; what stays unrepaired, and why."""
    pruning = prune(probe, recipe, target, scores)
    before = copied(model) if recipe.repair else model
    mask_(model, pruning.masks)
    unrepaired: dict[str, str] = {}
    for repair in recipe.repair:
        damage = Damage(before, pruning.masks, recipe.structure, batches)
        masks, failed = repair.repair_(model, damage)
        pruning = replace(pruning, masks=masks)
        kind = REPAIRS.kind_of(repair)
        unrepaired |= {name: f"{kind}: {why}" for name, why in failed.items()}
    return pruning, unrepaired
