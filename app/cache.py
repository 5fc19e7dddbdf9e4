"""What lives longer than a page: the store, the job queue, loaded tasks, and numbers about them.

Nothing here takes a model or an array as an argument: Streamlit would hash it, from a sample.
"""

import math
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import streamlit as st
import torch

from app import uploads
from sparsity_core.cost import Cost, cost
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.executors import WorkerProcesses
from sparsity_core.job_queue import JobQueue
from sparsity_core.plans import Plan
from sparsity_core.probe import Probe
from sparsity_core.setting import setting_of
from sparsity_core.store import Store
from sparsity_core.sweep import engine
from sparsity_core.sweep.plan import SweepPlan, plan_sweep
from sparsity_core.sweep.ways import BITWISE
from sparsity_core.sweep.work import Speed, speed_of, work_of
from sparsity_core.task import CatalogEntry, Task, catalog, load_task
from sparsity_core.weights import Prunable, prunable, unprunable

_WORKERS = 4
_HANGS = 600.0  # seconds
_TRAINING = ("tickets", "moving")  # kinds of plans whose points are trainings
PATIENCE = 0.8  # seconds that a script waits for work under way before it shows that it waits


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The store of results; raises SparsityError when it cannot be used."""
    return Store()


@st.cache_resource(show_spinner=False)
def queue() -> JobQueue:
    """The jobs of this server; they outlive pages, tabs and reloads."""
    return JobQueue(store(), WorkerProcesses(workers(), patience))


def workers() -> int:
    """How many processes measure, each with its share of the cores; $SPARSITY_WORKERS, or all.

    Not more than 4 unless asked for: each holds a model and its data.
    """
    asked = os.environ.get("SPARSITY_WORKERS", "")
    if asked and not asked.isdigit():
        raise SparsityError(f"SPARSITY_WORKERS: {asked!r} is no number of processes; write 2")
    return max(1, int(asked)) if asked else min(_WORKERS, len(os.sched_getaffinity(0)))


def patience(plan: Plan) -> float:
    """Seconds that a process may be silent over a point before it is ended: its model hangs.

    None for what trains, which may take long, unless $SPARSITY_TIME_LIMIT says how many.
    """
    trained = any(recipe.training for recipe in getattr(plan, "recipes", ()))
    if (trained or plan.kind in _TRAINING) and not os.environ.get("SPARSITY_TIME_LIMIT"):
        return math.inf
    return time_limit(plan.model)


def time_limit(model: str) -> float:
    """Seconds after which a model from outside hangs; $SPARSITY_TIME_LIMIT, or ten minutes."""
    if ":" not in model:
        return math.inf
    asked = os.environ.get("SPARSITY_TIME_LIMIT", "")
    try:
        return max(0.1, float(asked)) if asked else _HANGS
    except ValueError as error:
        raise SparsityError(
            f"SPARSITY_TIME_LIMIT: {asked!r} is no number of seconds; write 600"
        ) from error


def work(plan: Plan) -> dict[str, float] | None:
    """How much each point of a sweep is, by id; None for other plans."""
    if not isinstance(plan, SweepPlan):
        return None
    known = facts(plan.model)
    return work_of(plan, known.speed, known.layers)


@st.cache_resource(show_spinner=False)
def _entries() -> dict[str, CatalogEntry]:
    return catalog()


def entry(name: str) -> CatalogEntry:
    """The catalog's entry of a model, or this tab's own."""
    return (_entries() | uploads.entries())[name]


def models() -> dict[str, str | None]:
    """All models, this tab's own last: None, or what to do before one can be opened."""
    return {name: found.missing() for name, found in (_entries() | uploads.entries()).items()}


def listed_models() -> list[str]:
    """The models of the catalog whose data is here."""
    return [name for name, found in _entries().items() if found.missing() is None]


@st.cache_resource(show_spinner=False)
def _loaders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="sparsity-load")


@st.cache_resource(show_spinner=False, max_entries=3)
def _loading(name: str) -> "Future[Task]":
    return _loaders().submit(_load, name)


def _load(name: str) -> Task:
    task = load_task(name)
    # Digests of large data take seconds: here, not when the first plan is made.
    _ = task.model_digest, task.train.digest, task.validation.digest
    return task


def task(name: str) -> Task:
    """A loaded task. While it loads, or when it cannot be loaded, the page shows that and stops."""
    future = _loading(name)
    try:
        return future.result(timeout=PATIENCE)
    except TimeoutError:
        _wait_for(name, future)
    except SparsityError as error:
        _loading.clear(name)  # the data may be there next time
        st.error(str(error))
    st.stop()
    raise AssertionError  # st.stop() does not return


def _wait_for(name: str, future: "Future[Task]") -> None:
    @st.fragment(run_every=0.5)
    def look_again() -> None:
        st.info(f"Opening **{uploads.label_of(name)}**: the first time it may take a minute.")
        if future.done():
            st.rerun()

    look_again()


@dataclass(frozen=True)
class Facts:
    """What a model is made of; computed once a model."""

    layers: dict[str, Prunable]
    others: dict[str, str]  # parameters that are not pruned -> why
    uses: dict[str, int]
    cost: Cost
    speed: Speed


@st.cache_resource(show_spinner=False, max_entries=8)
def _facts(name: str, model_digest: str) -> Facts:  # noqa: ARG001 - the digest is part of the key
    loaded = task(name)
    sample = loaded.train.take(1)
    probe = Probe(loaded.model, [(sample.inputs, sample.targets)], loaded.loss)
    return Facts(
        layers=prunable(loaded.model),
        others=unprunable(loaded.model),
        uses=probe.uses,
        cost=cost(loaded.model, sample.inputs),
        speed=speed_of(loaded.model, loaded.train.inputs),
    )


def facts(name: str) -> Facts:
    """Layers, costs and uses of a model."""
    return _facts(name, task(name).model_digest)


def spread(split: Split, count: int) -> Split:
    """So many samples evenly spaced over a split: the first ones are often all of one class."""
    return split.take(torch.linspace(0, len(split) - 1, min(count, len(split))).long())


@st.cache_data(show_spinner=False, max_entries=8)
def predictions(name: str, model_digest: str, count: int) -> list[int]:  # noqa: ARG001
    """The classes that a model gives to so many spread samples of the test split."""
    loaded = task(name)
    with torch.no_grad():
        outputs = loaded.model(spread(loaded.test, count).inputs)
    return [int(i) for i in outputs.argmax(-1)]


@st.cache_data(show_spinner=False, max_entries=32)
def held_bytes(name: str, model_digest: str, split: str, samples: int, memory: int) -> int:  # noqa: ARG001
    """What a worker holds between two layers, at most; nothing is fused yet, so rather more."""
    setting = setting_of(task(name), split=split, samples=samples, device="cpu")
    return engine.held_bytes(task(name), setting, BITWISE, memory)


def plan_of(name: str, **options: Any) -> SweepPlan:
    """A sweep's plan; raises SparsityError for choices that make none."""
    return plan_sweep(task(name), **options)
