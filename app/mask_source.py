"""Masks of a whole model for the page: made once a recipe, in the background, never trained."""

import json
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from threading import Lock, Thread

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
    asked = _pruning(*key)
    try:
        pruning = asked.answer.result(timeout=PATIENCE)
    except TimeoutError:
        _wait_for(asked, cache.time_limit(model))
        st.stop()
    layers = cache.facts(model).layers
    parameters = dict(task.model.named_parameters())
    weights = {name: parameters[name].detach() for name in layers}
    return Masked(recipe, seed, pruning, layers, weights)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Masks that are being made, and since when."""

    answer: "Future[Pruning]" = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


@st.cache_resource(show_spinner=False)
def _turn(model: str) -> Lock:  # noqa: ARG001 - one of each model: one that hangs holds up no other
    return Lock()


@st.cache_resource(show_spinner=False, max_entries=12)
def _pruning(
    model: str,
    model_digest: str,  # noqa: ARG001 - the digests are part of the key
    train_digest: str,  # noqa: ARG001
    device: str,
    recipe: str,
    seed: int,
) -> _Asked:
    task, turn, asked = cache.task(model), _turn(model), _Asked()

    def prune() -> None:
        try:
            with turn:
                *_, last = run(task, Recipe.from_dict(json.loads(recipe)), seed=seed, device=device)
            asked.answer.set_result(last.pruning)
        except Exception as error:  # noqa: BLE001 - it goes to the page that waits
            asked.answer.set_exception(error)

    # Nobody waits for it when the server ends: a model may hang.
    Thread(target=prune, daemon=True, name="sparsity-masks").start()
    return asked


def _wait_for(asked: _Asked, limit: float) -> None:
    @st.fragment(run_every=0.5)
    def look_again() -> None:
        if asked.answer.done():
            st.rerun()
        if time.monotonic() - asked.since < limit:
            st.info("Scoring and pruning the whole model: it may take a moment for a large one.")
            return
        st.error(
            f"Scoring and pruning takes longer than the time limit of {limit:g} s: the model seems "
            "to hang. Look why, then start the app again; or allow more with SPARSITY_TIME_LIMIT."
        )

    look_again()
