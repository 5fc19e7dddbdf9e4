"""One round of pruning: score, group into units, allocate, choose, and the masks that result."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_core.allocations import Layer
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS, Scorer
from sparsity_core.structures import STRUCTURES, Structure
from sparsity_core.weights import (
    Masks,
    Prunable,
    Scores,
    Sparsities,
    canonical_names,
    check_finite,
    check_sparsity,
    sparsity_of,
)


@dataclass(frozen=True, eq=False)
class Pruning:
    """What one round decided."""

    scores: Scores
    units: dict[str, Tensor]
    sparsities: Sparsities  # as asked of each layer; `achieved` has what came of it
    masks: Masks  # with the biases of removed outputs
    skipped: dict[str, str]  # layers that stay as they are -> why

    @property
    def achieved(self) -> Sparsities:
        """The share of masked weights in each pruned layer."""
        return {name: sparsity_of(self.masks[name]) for name in self.sparsities}

    @property
    def emptied(self) -> list[str]:
        """Layers without a single weight left: the model has probably collapsed."""
        return [name for name in self.sparsities if not self.masks[name].any()]


def prune(
    probe: Probe, recipe: Recipe, sparsity: float | None = None, scores: Scores | None = None
) -> Pruning:
    """Masks for every layer that the recipe's structure fits, at the recipe's or a given sparsity.

    The target counts the weights of those layers. Weights that the probe's masks already removed
    stay removed and count towards it. Layers that do not fit are left dense and named in `skipped`.
    `scores` of an earlier round are taken instead of new ones. Raises SparsityError when no layer
    is left or a layer cannot have its sparsity, NonFiniteError for weights or scores that are NaN
    or infinite.
    """
    target = check_sparsity(recipe.sparsity if sparsity is None else sparsity)
    skipped = refusals(probe, recipe.scorer, recipe.structure) | dict.fromkeys(
        canonical_names(probe.model, recipe.skip), "left out by the recipe"
    )
    names = [name for name in probe.layers if name not in skipped]
    if not names:
        first = next(iter(skipped.items()))
        raise SparsityError(f"no layer can be pruned: {first[0]} {first[1]}")
    if scores is None:
        scores = checked_scores(probe, recipe.scorer, names)
    units = {n: unit_scores(probe, n, scores[n], recipe.scorer, recipe.structure) for n in names}
    macs = probe.macs if recipe.allocation.budget == "macs" else dict.fromkeys(names, 0)
    layers = {name: Layer(probe.layers[name].shape, units[name], macs[name]) for name in names}
    sparsities = recipe.allocation.sparsities(layers, target)
    masks: Masks = {}
    for name, layer_sparsity in sparsities.items():
        if reason := recipe.structure.refuses(layer_sparsity):
            own = ", or the allocation uniform" if layer_sparsity != target else ""
            raise SparsityError(f"{name}: {reason}{own}")
        places = _shuffled(probe, name, units[name]) if recipe.shuffled else units[name]
        masks |= masks_from_units(probe.layers[name], places, recipe.structure, layer_sparsity)
    kept_before = {name: mask for name, mask in probe.masks.items() if name not in masks}
    merged = {name: mask & probe.masks.get(name, mask) for name, mask in masks.items()}
    return Pruning(scores, units, sparsities, kept_before | merged, skipped)


def refusals(probe: Probe, scorer: Scorer, structure: Structure) -> dict[str, str]:
    """The layers that structure or scorer cannot have, or that are never used -> why."""
    if scorer.ranks == "outputs" and not structure.removes_outputs:
        why = (
            f"cannot have {STRUCTURES.label(structure)} masks by {SCORERS.label(scorer)}, which "
            "gives all weights of an output one score; choose out-channel or another scorer"
        )
        return dict.fromkeys(probe.layers, why)
    found = dict(probe.once(("refusals", scorer), lambda: scorer.refuses(probe)))
    for name, layer in probe.layers.items():
        reason = structure.of(layer).fits(layer.shape, layer.groups)
        if reason is not None:
            found[name] = f"{reason}; skip this layer or choose another structure"
        elif probe.batches and not probe.uses[name]:
            found[name] = "is never used in the forward pass, so pruning it changes nothing"
    return found


def checked_scores(probe: Probe, scorer: Scorer, names: Iterable[str]) -> Scores:
    """The finite scores of the named layers; NonFiniteError names one that is not finite."""
    names = list(names)
    for name in names:
        check_finite(name, probe.weights[name])
    if scorer.needs_data or len(names) == len(probe.layers):
        scores = probe.once(scorer, lambda: scorer.score(probe))
    else:  # soon made again, and of all layers as large as the model
        scores = scorer.score(probe.only(names))
    for name in names:
        check_finite(name, scores[name], f"{SCORERS.kind_of(scorer)} scores")
    return {name: scores[name] for name in names}


def unit_scores(
    probe: Probe, name: str, scores: Tensor, scorer: Scorer, structure: Structure
) -> Tensor:
    """Scores of a layer's units, comparable with each other; -inf where nothing is alive."""
    mean = structure.of(probe.layers[name]).units
    if scorer.comparable_within == "row" and structure.within_row:
        scores = _rank_within_rows(scores)
    alive = probe.masks.get(name)
    if alive is None:
        return scorer.pool(scores, mean)
    units = scorer.pool(scores.masked_fill(~alive, 0), mean)
    return units.masked_fill(mean(alive.float()) == 0, -torch.inf)


def masks_from_units(
    layer: Prunable, units: Tensor, structure: Structure, sparsity: float
) -> Masks:
    """The layer's mask, and those of the biases whose outputs go."""
    return masks_from_choice(layer, structure.choose(units, sparsity), structure)


def masks_from_choice(layer: Prunable, chosen: Tensor, structure: Structure) -> Masks:
    """The layer's mask where these units stay, and those of the biases whose outputs go."""
    mask = structure.of(layer).expand(chosen, layer.shape)
    biases = layer.biases if structure.removes_outputs else ()
    return {layer.name: mask} | {bias: mask.flatten(1).any(1) for bias in biases}


def _shuffled(probe: Probe, name: str, units: Tensor) -> Tensor:
    """The scores of a layer's living units, dealt out among them by the probe's seed."""
    seed = int(digest_of([probe.seed, name, "shuffled"])[:12], 16)
    alive = (~units.isneginf()).reshape(-1).nonzero()[:, 0]
    order = torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed))
    dealt = units.reshape(-1).clone()
    dealt[alive] = dealt[alive[order.to(alive.device)]]
    return dealt.reshape(units.shape)


def _rank_within_rows(scores: Tensor) -> Tensor:
    """Each weight's place in its row, 0 (lowest) to n-1: equal shares of every row can be taken.

    Among equals the first rank higher, as everywhere.
    """
    rows = scores.flatten(1)
    order = rows.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(rows.shape[1] - 1, -1, -1, device=rows.device, dtype=torch.float64)
    return (
        torch.empty_like(rows, dtype=torch.float64)
        .scatter_(1, order, places.expand_as(order))
        .reshape(scores.shape)
    )
