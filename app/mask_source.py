"""Masks of a whole model for the page: made once a recipe, in the background, never trained."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import streamlit as st
from torch import Tensor

from app import cache
from app.cache import PATIENCE
from sparsity_core.machine import resolve_device
from sparsity_core.prune import Pruning
from sparsity_core.recipe import Recipe
from sparsity_core.rounds import run
from sparsity_core.weights import Prunable


@dataclass(frozen=True, eq=False)
class Masked:
    """A recipe, what it did to a model, and the weights before."""

    recipe: Recipe
    seed: int
    pruning: Pruning
    layers: dict[str, Prunable]
    weights: dict[str, Tensor]

    def mask(self, layer: str) -> Tensor | None:
        """The layer's mask; None where the layer stays dense."""
        found = self.pruning.masks.get(layer)
        return None if found is None else found.cpu()


def masked(model: str, device: str, recipe: Recipe, seed: int) -> Masked:
    """The masks of a recipe. Until they are there the page shows that and stops; a recipe that
    cannot be met raises SparsityError."""
    task = cache.task(model)
    text = json.dumps(replace(recipe, training=None).to_dict())
    key = (model, task.model_digest, task.train.digest, resolve_device(device), text, seed)
    future = _pruning(*key)
    try:
        pruning = future.result(timeout=PATIENCE)
    except TimeoutError:
        _wait_for(future)
        st.stop()
    layers = cache.facts(model).layers
    parameters = dict(task.model.named_parameters())
    weights = {name: parameters[name].detach() for name in layers}
    return Masked(recipe, seed, pruning, layers, weights)


@st.cache_resource(show_spinner=False)
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="sparsity-masks")


@st.cache_resource(show_spinner=False, max_entries=12)
def _pruning(
    model: str,
    model_digest: str,  # noqa: ARG001 - the digests are part of the key
    train_digest: str,  # noqa: ARG001
    device: str,
    recipe: str,
    seed: int,
) -> "Future[Pruning]":
    task = cache.task(model)

    def prune() -> Pruning:
        *_, last = run(task, Recipe.from_dict(json.loads(recipe)), seed=seed, device=device)
        return last.pruning

    return _workers().submit(prune)


def _wait_for(future: "Future[Pruning]") -> None:
    @st.fragment(run_every=0.5)
    def look_again() -> None:
        st.info("Scoring and pruning the whole model: it may take a moment for a large one.")
        if future.done():
            st.rerun()

    look_again()
