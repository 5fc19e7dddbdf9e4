"""Rows to show: what is stored of a plan, otherwise the finished example, with its machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
import torch

from app import cache
from app.live import duration, words_to_start
from sparsity_core.kernels.compact import kernel_rows, latency_rows
from sparsity_core.kernels.latency import LatencyPlan
from sparsity_core.kernels.latency_row import LatencyRow
from sparsity_core.kernels.peaks import cpu_label
from sparsity_core.kernels.plan import KernelPlan
from sparsity_core.kernels.row import KernelRow
from sparsity_core.machine import device_label

NO_GPU = "without a CUDA GPU: torch finds none here"
_START = 8.0  # seconds until a worker has loaded torch and measured what the CPU can do
_SETTING = 2.0  # seconds a setting, as a first guess


@dataclass(frozen=True)
class Shown:
    """Rows, and whether they are the example that ships with this version."""

    rows: Sequence[Any]
    shipped: bool


def of_layer(plan: KernelPlan) -> Shown:
    """The plan's own rows; the example where nothing of it is stored."""
    rows: list[KernelRow] = cache.store().rows(plan)
    return Shown(rows, False) if rows else Shown(_example("layer"), True)


def of_map(plan: KernelPlan) -> Shown:
    """The same of the map."""
    rows: list[KernelRow] = cache.store().rows(plan)
    return Shown(rows, False) if rows else Shown(_example("map"), True)


def of_model(plan: LatencyPlan) -> Shown:
    """The same of a whole model: the example is of this model where there is one."""
    rows: list[LatencyRow] = cache.store().rows(plan)
    if rows:
        return Shown(rows, False)
    known = _example("models")
    named = plan.model if any(row.model == plan.model for row in known) else "cifar10-resnet20"
    return Shown([row for row in known if row.model == named], True)


@st.cache_resource(show_spinner=False)
def _example(part: str) -> list[Any]:
    # Of the first package of models that has one.
    each = (cache.entry(name).kernels() for name in cache.models())
    found = next((one for one in each if one), None)
    if not found or part not in found:
        return []
    read = latency_rows if part == "models" else kernel_rows
    return list(read(found[part]))


def start_label(plan: KernelPlan | LatencyPlan, each: float = _SETTING) -> tuple[int, str]:
    """How many points are new, and the words of the start button."""
    points = plan.points()
    known = cache.store().statuses([point.id for point in points])
    new = [point for point in points if known.get(point.id, "failed") == "failed"]
    about = duration(_START + each * len(plan.groups(new)))  # type: ignore[arg-type]
    stored = len(points) - len(new)
    return len(new), words_to_start("Time", len(new), stored, f"about {about}")


def this_gpu() -> str:
    """The GPU of this machine as its rows name it, or the lack of one."""
    return device_label("cuda") if torch.cuda.is_available() else NO_GPU


def say_where(shown: Shown) -> None:
    """Which machine the numbers are of, and whether it is this one."""
    if not shown.rows:
        return
    row = shown.rows[0]
    label = cpu_label() if row.device.startswith("cpu") else this_gpu()
    here = f"cpu: {label}" if row.device.startswith("cpu") else label
    power = f"; {row.power}" if getattr(row, "power", None) else ""
    there = f"{row.device.removeprefix('cpu: ')}; {row.versions}{power}"
    threads = f"{row.threads} thread{'s' if row.threads > 1 else ''}"
    what = "A finished example" if shown.shipped else "Timed"
    if row.device != here:
        st.warning(
            f"{what} on **another machine**: {there}; {threads}. This machine is {label}: "
            "time it here before you believe it.",
            icon=":material/computer:",
        )
    elif shown.shipped:
        st.info(
            f"{what} that ships with this version, timed on a machine like this one: {there}; "
            f"{threads}. Start above to time it here.",
            icon=":material/computer:",
        )
    else:
        st.caption(f"{what} on this machine: {there}; {threads}.")
