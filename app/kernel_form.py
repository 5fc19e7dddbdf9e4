"""Which kernels to time, on which layer or shape: from choices on screen to a plan."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import cache
from app.about import question
from app.chosen_layer import pick_layer
from app.forms import folded, warn_of_unknown
from app.kernel_device import choose_device
from app.state import Frame
from sparsity_core.errors import SparsityError
from sparsity_core.kernels import KERNELS
from sparsity_core.kernels.bench import CACHES, CONVOLUTIONS, MATRIX
from sparsity_core.kernels.gpu_race import GPU
from sparsity_core.kernels.latency import LatencyPlan, plan_latency
from sparsity_core.kernels.plan import KernelPlan, plan_kernels

VIEWS = ONE, MODEL, MAP = ("One layer", "Whole model", "Break-even map")
SHAPE, LAYER = "A shape", "A layer of the model"
_LEVELS = (10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 98, 99)
_USUAL = (10, 30, 50, 70, 80, 90, 95, 99)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TYPES = ("float32", "bfloat16")
_MAP_SHAPES = ("256x256", "768x768", "768x3072", "3072x768", "2048x2048")
_MAP_KERNELS = ("permute", "balanced", "tiled", "blocks")


def choose_kernels(frame: Frame) -> KernelPlan:
    """The form of one layer or shape; raises SparsityError for choices that make no plan."""
    with folded("Choose what to time"):
        warn_of_unknown("kernels-what", (SHAPE, LAYER))
        with st.container(horizontal=True, gap="medium"):
            what = st.segmented_control(
                "What", [SHAPE, LAYER], default=SHAPE, required=True, key="kernels-what",
                bind="query-params", label_visibility="collapsed",
            )  # fmt: skip
            where = choose_device()
        task, layer, shape = None, "", (768, 3072)
        left, right = st.columns(2)
        if what == LAYER:
            task = cache.task(frame.model)
            with left:
                layer = pick_layer(list(cache.facts(frame.model).layers))
            conv = len(cache.facts(frame.model).layers[layer].shape) == 4
        else:
            text = left.text_input(
                "Outputs x inputs", "768x3072", key="kernels-shape", bind="query-params",
                help="Of a Linear layer with random weights. 768x3072 is one of ViT-B/16.",
            )  # fmt: skip
            shape, conv = _shape(text), False
        known = CONVOLUTIONS if conv else MATRIX
        if where["device"] == "cuda":
            known = GPU
        kernels = _formats(right, known)
        left, right = st.columns(2)
        sparsities = left.multiselect(
            "Sparsities (%)", list(_LEVELS), list(_USUAL), key="kernels-levels",
            bind="query-params", accept_new_options=True,
        )  # fmt: skip
        batches = _batches(right, "kernels-batches", (1, 8, 64, 256))
        caches = left.multiselect(
            "Cache", list(CACHES), ["hot"], key="kernels-caches", bind="query-params",
            help="Hot: the weights lie in the cache from the call before. Cold: they come from "
            "memory, as they do inside a large model.",
        )  # fmt: skip
        with st.popover("Threads and repeats"):
            numbers = _numbers("kernels", 11)
    return plan_kernels(
        task,
        layer,
        shapes=[shape],
        sparsities=[_share(percent) for percent in sparsities],
        batches=batches,
        caches=caches,
        kernels=kernels,
        device=where["device"],
        dtype=where["dtype"],
        **numbers,
    )


def choose_map() -> KernelPlan:
    """The form of the map: several shapes, batches and sparsities at once."""
    with folded("Choose what to time"):
        left, right = st.columns(2)
        shapes = left.multiselect(
            "Shapes (outputs x inputs)", list(_MAP_SHAPES), list(_MAP_SHAPES), key="map-shapes",
            bind="query-params", accept_new_options=True,
        )  # fmt: skip
        batches = _batches(right, "map-batches", (1, 8, 64, 256))
        sparsities = left.multiselect(
            "Sparsities (%)", list(_LEVELS), [50, 70, 80, 90, 95], key="map-levels",
            bind="query-params", accept_new_options=True,
        )  # fmt: skip
        kernels = right.multiselect(
            "Formats", list(MATRIX), list(_MAP_KERNELS), key="map-kernels", bind="query-params"
        )
        with left, st.popover("Threads and repeats"):
            numbers = _numbers("map", 5)
    return plan_kernels(
        shapes=[_shape(str(text)) for text in shapes],
        sparsities=[_share(percent) for percent in sparsities],
        batches=batches,
        kernels=kernels,
        **numbers,
    )


def choose_latency(frame: Frame) -> LatencyPlan:
    """The form of a whole model before and after packing, by the sidebar's recipe."""
    with folded("Choose what to time"):
        left, right = st.columns(2)
        batches = _batches(left, "latency-batches", (1, 64))
        threads = right.number_input(
            "Threads", 1, 64, 1, key="latency-threads", bind="query-params"
        )
        with st.container(horizontal=True, gap="medium"):
            fold = st.checkbox(
                "Fold batch norms", True, key="latency-fold", bind="query-params",
                help="Into the layers before them, in the dense model as well.",
            )  # fmt: skip
            others = st.checkbox(
                "torch.compile and onnxruntime too", key="latency-others", bind="query-params",
                help="Rivals that run the zeros densely; compiling takes half a minute.",
            )  # fmt: skip
    return plan_latency(
        cache.task(frame.model),
        frame.recipe,
        batches=batches,
        threads=int(threads),
        fold=fold,
        others=others,
    )


def formats_key(known: Sequence[str]) -> str:
    """Where the chosen formats are kept: those of matrices and of convolutions apart."""
    return f"kernels-formats {len(known)}"


def _formats(column: Any, known: Sequence[str]) -> list[str]:
    """Kernels by name, filtered by what they store."""
    chosen = column.multiselect(
        "Formats", list(known), key=formats_key(known), placeholder="all",
        help=f"{question(KERNELS)} The dense float32 ones are always timed.",
    )  # fmt: skip
    types = column.multiselect(
        "Values stored as", list(TYPES), list(TYPES), key="kernels-types", bind="query-params",
        disabled=known == GPU,
        help="bfloat16 values are widened in registers or multiplied by the CPU's matrix units; "
        "inputs and outputs stay float32.",
    )  # fmt: skip
    kinds = [
        kind
        for kind in chosen or known
        if known == GPU or str(KERNELS.make(kind).stores).removeprefix("torch.") in types
    ]
    return ["all"] if kinds == list(known) else kinds


def _batches(column: Any, key: str, usual: Sequence[int]) -> list[int]:
    typed = column.multiselect(
        "Batches", list(_BATCHES), list(usual), key=key, bind="query-params",
        accept_new_options=True,
    )  # fmt: skip
    try:
        return [int(one) for one in typed]
    except ValueError as error:
        raise SparsityError(f"batches are whole numbers, got {typed}") from error


def _numbers(form: str, repeats: int) -> dict[str, Any]:
    given = {
        "threads": (1, 64, 1, "of torch and of our kernels alike; the process is pinned to them"),
        "repeats": (1, 200, repeats, "rounds in which every kernel runs once, in random order"),
        "seed": (0, 999, 0, "another one times everything anew"),
    }
    return {
        name: int(
            st.number_input(
                name.capitalize(), low, high, usual, key=f"{form}-{name}", bind="query-params",
                help=words,
            )
        )
        for name, (low, high, usual, words) in given.items()
    }  # fmt: skip


def _shape(text: str) -> tuple[int, int]:
    rows, _, cols = text.replace(" ", "").partition("x")
    if not (rows.isdecimal() and cols.isdecimal()):
        raise SparsityError(f"{text!r} is no shape: write outputs and inputs, such as 768x3072")
    return int(rows), int(cols)


def _share(percent: Any) -> float:
    try:
        return round(float(percent) / 100, 6)
    except ValueError:  # what was typed is no number: the plan says so
        return float("nan")
