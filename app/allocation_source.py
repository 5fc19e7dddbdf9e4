"""What allocations do to a model, in plain numbers: made in the background from one scoring."""

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import lru_cache

import streamlit as st
from torch import Tensor

from app import cache
from app.cache import PATIENCE
from sparsity_core.copied import copied
from sparsity_core.cost import LayerCost
from sparsity_core.errors import SparsityError
from sparsity_core.machine import resolve_device
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.setting import draw_batches
from sparsity_core.structures import Structure
from sparsity_core.task import Task

SCORE_SAMPLES = 512  # as `run` and `plan_curve` take, so that masks here are those measured


@dataclass(frozen=True)
class Share:
    """What is left of one layer."""

    layer: str
    asked: float  # share of zeros
    achieved: float
    weights: int
    kept: int
    macs: int  # multiply-adds of the dense layer for one sample
    kept_macs: int
    units: int
    kept_units: int


@dataclass(frozen=True)
class Outcome:
    """What a recipe does to every layer, or the reason why it cannot be had."""

    recipe: Recipe
    shares: tuple[Share, ...] = ()  # of the layers that the recipe prunes, as the model has them
    skipped: tuple[tuple[str, str], ...] = ()  # layers that stay dense -> why
    reason: str | None = None

    @property
    def achieved(self) -> dict[str, float]:
        """The share of zeros of each layer."""
        return {share.layer: share.achieved for share in self.shares}

    @property
    def total(self) -> float:
        """The share of zeros of all layers that the recipe prunes."""
        return _zeros([(share.kept, share.weights) for share in self.shares])

    @property
    def total_macs(self) -> float:
        """The share of their multiply-adds that is by a zero."""
        return _zeros([(share.kept_macs, share.macs) for share in self.shares])


def outcomes(model: str, device: str, recipes: Sequence[Recipe]) -> list[Outcome] | None:
    """One outcome a recipe, each in one round and untrained.

    None until they are there: the page shows a line instead and is drawn again when they are.
    """
    task = cache.task(model)
    where = (model, task.model_digest, task.train.digest, resolve_device(device))
    futures = [_pruned(*where, json.dumps(_untrained(recipe).to_dict())) for recipe in recipes]
    if wait(futures, PATIENCE).not_done:
        _wait_for(futures)
        return None
    return [future.result() for future in futures]


@st.cache_resource(show_spinner=False)
def _workers() -> ThreadPoolExecutor:
    # One thread: a probe keeps what it has measured and is not made for two.
    return ThreadPoolExecutor(1, thread_name_prefix="sparsity-allocations")


@lru_cache(maxsize=2)
def _probe(task: Task, device: str) -> Probe:
    """The dense model as it is scored; it keeps its scores."""
    batches = draw_batches(task.train, SCORE_SAMPLES, 0, device)
    return Probe(copied(task.model).to(device), batches, task.loss, seed=0)


@st.cache_resource(show_spinner=False, max_entries=512)
def _pruned(
    model: str,
    model_digest: str,  # noqa: ARG001 - the digests are part of the key
    train_digest: str,  # noqa: ARG001
    device: str,
    recipe: str,
) -> "Future[Outcome]":
    task, found = cache.task(model), Recipe.from_dict(json.loads(recipe))
    costs = {layer.name: layer for layer in cache.facts(model).cost.layers}
    return _workers().submit(lambda: _outcome(_probe(task, device), found, costs))


def _outcome(probe: Probe, recipe: Recipe, costs: dict[str, LayerCost]) -> Outcome:
    try:
        pruning = prune(probe, recipe)
    except SparsityError as error:
        return Outcome(recipe, reason=str(error))
    shares = tuple(
        _share(
            costs[name],
            recipe.structure.of(probe.layers[name]),
            pruning.sparsities[name],
            pruning.masks[name],
            probe.weights[name],
        )
        for name in probe.layers
        if name in pruning.sparsities
    )
    return Outcome(recipe, shares, tuple(pruning.skipped.items()))


def _share(
    layer: LayerCost, structure: Structure, asked: float, mask: Tensor, weight: Tensor
) -> Share:
    """Zeros count as `sparsity_core.cost` counts them, without running the model once a recipe."""
    units = structure.units(mask.float())
    kept = int((mask & (weight != 0)).sum())
    return Share(
        layer=layer.name,
        asked=asked,
        achieved=1 - int(mask.sum()) / mask.numel(),
        weights=layer.parameters,
        kept=kept,
        macs=layer.macs,
        kept_macs=round(layer.macs * kept / layer.parameters),
        units=units.numel(),
        kept_units=int((units > 0).sum()),
    )


def _untrained(recipe: Recipe) -> Recipe:
    return replace(recipe, training=None)


def _zeros(kept_of: Sequence[tuple[int, int]]) -> float:
    whole = sum(total for _, total in kept_of)
    return 1 - sum(kept for kept, _ in kept_of) / whole if whole else 0.0


def _wait_for(futures: "Sequence[Future[Outcome]]") -> None:
    @st.fragment(run_every=0.5)
    def look_again() -> None:
        st.info("Scoring the whole model: it may take a moment for a large one.")
        if all(future.done() for future in futures):
            st.rerun()

    look_again()
