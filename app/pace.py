"""The pace of training on this machine, tried in a thread and kept."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import streamlit as st

from app import cache
from app.cache import PATIENCE
from sparsity_core.pace import Pace, pace_of
from sparsity_core.recipe import Training
from sparsity_core.task import Task


def pace(model: str, training: Training, device: str) -> "Future[Pace]":
    """A few steps of such a training; when they take long the future is not done yet."""
    task = cache.task(model)
    key = f"{task.model_digest} {device} {training.optimizer} {training.batch_size}"
    future = _trial(key, task, training, device)
    with suppress(TimeoutError):  # the page looks again
        future.exception(timeout=PATIENCE)
    return future


@st.cache_resource(show_spinner=False, max_entries=32)
def _trial(key: str, _task: Task, _training: Training, _device: str) -> "Future[Pace]":  # noqa: ARG001
    return _timers().submit(pace_of, _task, _training, _device)


@st.cache_resource(show_spinner=False)
def _timers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="sparsity-pace")
