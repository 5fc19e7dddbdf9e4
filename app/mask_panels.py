"""The parts of the Masks page: the table of layers, the weights, lines, filters, two recipes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app import export, mask_charts, overlap_charts
from app.filter_charts import filters, kernels_of, per_picture
from app.mask_form import choose_window
from app.mask_source import Masked
from app.mask_view import (
    MOST,
    NOTHING,
    Pooled,
    agreement,
    dead_inputs,
    dead_outputs,
    matrix_of,
    pool,
    spans,
    sparsity_along,
    unit_size,
    window,
)
from sparsity_core.weights import sparsity_of


def layer_table(a: Masked) -> pd.DataFrame:
    """One row a layer: asked and achieved sparsity, what died, why it stays dense."""
    table = []
    for name, layer in a.layers.items():
        mask = a.mask(name)
        row: dict[str, Any] = {
            "layer": name,
            "shape": " x ".join(map(str, layer.shape)),
            "weights": layer.size,
            "asked (%)": None,
            "achieved (%)": 0.0,
            "dead outputs": 0,
            "dead inputs": 0,
            "note": a.pruning.skipped.get(name, ""),
        }
        if mask is not None:
            row["asked (%)"] = 100 * a.pruning.sparsities[name]
            row["achieved (%)"] = 100 * sparsity_of(mask)
            row["dead outputs"] = len(dead_outputs(mask))
            row["dead inputs"] = len(dead_inputs(mask))
            row["note"] = "no weight left" if name in a.pruning.emptied else layer.note
        table.append(row)
    return pd.DataFrame(table)


def draw_weights(a: Masked, layer: str, by_value: bool, python: str) -> None:
    """The whole layer in cells, then single weights of a window; small layers at once."""
    mask, values = _matrices(a, layer)
    shape, unit = a.layers[layer].shape, unit_size(a.recipe.structure)
    if max(mask.shape) > MOST:
        pooled = pool(mask, unit)
        export.show(
            mask_charts.shares(pooled, shape), _cells(pooled), f"mask-{layer}",
            python=python, on_select=_zoom_to, key=f"overview {layer}",
        )  # fmt: skip
        st.caption(
            f"{mask.shape[0]} x {mask.shape[1]} weights, {pooled.caption}{_whole(pooled, unit)}. "
            "Click a cell to see its single weights below."
        )
    top, left = choose_window(mask.shape, MOST)
    rows, cols = window(mask.shape[0], top), window(mask.shape[1], left)
    export.show(
        mask_charts.weights(mask, values, rows, cols, shape, unit=unit, by_value=by_value),
        _listed(mask, values, rows, cols), f"weights-{layer}", python=python, key="weights",
    )  # fmt: skip
    lines = f"; lines and tint part the groups of {unit[0]} x {unit[1]}" if unit != (1, 1) else ""
    if unit == (1, 1) and len(shape) > 2:
        lines = "; lines and tint part the kernel positions"
    st.caption(
        f"Single weights: outputs {rows.start}-{rows.stop - 1}, columns {cols.start}-"
        f"{cols.stop - 1}. Square = kept, dot = pruned{lines}."
    )


def draw_filters(a: Masked, layer: str, by_value: bool, python: str) -> None:
    """Each filter of a convolution as a small picture."""
    mask = a.mask(layer)
    assert mask is not None
    kernels, values = kernels_of(mask.numpy()), kernels_of(a.weights[layer].cpu().numpy())
    count, total = per_picture(kernels.shape), len(kernels)
    first = 0
    if total > count:
        starts = list(range(0, total, count))
        first = st.select_slider(
            "Filters", starts, key=f"filters {layer}",
            format_func=lambda n: f"{n}-{min(n + count, total) - 1}",
        )  # fmt: skip
    chosen = range(first, min(first + count, total))
    share = kernels.reshape(total, -1).mean(1)
    table = pd.DataFrame({"filter": range(total), "kept (%)": 100 * share})
    export.show(
        filters(kernels, values, chosen, by_value), table, f"filters-{layer}", python=python,
        key="filters",
    )  # fmt: skip
    st.caption(
        f"Filters {chosen.start}-{chosen.stop - 1} of {total}; each small kernel of "
        f"{kernels.shape[2]} x {kernels.shape[3]} reads one input of {kernels.shape[1]}, in "
        "reading order. Filled = kept."
    )


def draw_lines(a: Masked, layer: str, python: str) -> None:
    """Sparsity of each row and each column, and those that died."""
    mask = a.mask(layer)
    assert mask is not None
    matrix = matrix_of(mask)
    for column, axis, what, name in (
        (st.container(), 1, "output", "rows"),
        (st.container(), 0, "column", "columns"),
    ):
        with column:
            st.markdown(f"**Sparsity of each {what}**")
            sparsities = sparsity_along(matrix, axis)
            table = pd.DataFrame({what: range(len(sparsities)), "sparsity (%)": 100 * sparsities})
            export.show(
                mask_charts.along(sparsities, what), table, f"{name}-{layer}", python=python,
                key=f"{name} {layer}",
            )  # fmt: skip
    groups = a.layers[layer].groups
    within = f", counted within a group (the layer has {groups})" if groups > 1 else ""
    for name, dead, total in (
        ("outputs (rows)", dead_outputs(mask), mask.shape[0]),
        (f"inputs{within}", dead_inputs(mask), mask.shape[1]),
    ):
        listed = f": {spans(dead)}" if dead else ""
        st.markdown(f"**Dead {name}**: {len(dead)} of {total}{listed}")
    if dead_outputs(mask):
        st.caption("A dead output is not yet a removed one: the shape stays, its bias may not.")


def draw_comparison(a: Masked, b: Masked, layer: str, python: str) -> None:
    """Where two recipes agree: every layer as a bar, one layer as a picture."""
    both = [name for name in a.layers if a.mask(name) is not None and b.mask(name) is not None]
    found = {name: agreement(_matrices(a, name)[0], _matrices(b, name)[0]) for name in both}
    total = sum(found.values(), NOTHING)
    table = pd.DataFrame(
        {
            "layer": [*found, "all of these"],
            "kept by both": [x.both for x in (*found.values(), total)],
            "only A": [x.only_a for x in (*found.values(), total)],
            "only B": [x.only_b for x in (*found.values(), total)],
            "kept by none": [x.neither for x in (*found.values(), total)],
            "Jaccard": [x.jaccard for x in (*found.values(), total)],
            "Jaccard by chance": [x.by_chance for x in (*found.values(), total)],
        }
    )
    export.show(overlap_charts.overlap_by_layer(found), table, "overlap", python=python, key="bars")
    st.dataframe(table.style.format(precision=3), hide_index=True, placeholder="nothing kept")
    st.caption(
        "Numbers of weights. Jaccard = kept by both over kept by any; by chance = what two random "
        "masks with as many kept weights would show."
    )
    if layer not in found:
        st.info(f"{layer} stays dense in one of the recipes, so there is no overlap to draw.")
        return
    _draw_overlap(_matrices(a, layer)[0], _matrices(b, layer)[0], a, layer, python)


def _draw_overlap(
    mask_a: np.ndarray, mask_b: np.ndarray, a: Masked, layer: str, python: str
) -> None:
    shape = a.layers[layer].shape
    if max(mask_a.shape) > MOST:
        one, other = pool(mask_a & mask_b), pool(mask_a | mask_b)
        with np.errstate(invalid="ignore"):  # cells that both empty have no index
            pooled = Pooled(one.shares / other.shares, one.rows, one.cols)
        export.show(
            mask_charts.shares(pooled, shape, "Jaccard (%)"), _cells(pooled), f"jaccard-{layer}",
            python=python, on_select=_zoom_to, key=f"jaccard {layer}",
        )  # fmt: skip
        st.caption(
            f"Jaccard index of A and B in cells of {pooled.rows} x {pooled.cols} weights; empty "
            "where neither keeps any. Click a cell to see its single weights below."
        )
    top, left = choose_window(mask_a.shape, MOST)
    rows, cols = window(mask_a.shape[0], top), window(mask_a.shape[1], left)
    export.show(
        overlap_charts.overlap(mask_a, mask_b, rows, cols, shape),
        _listed(mask_a, mask_b, rows, cols, ("kept by A", "kept by B")), f"overlap-{layer}",
        python=python, key="overlap",
    )  # fmt: skip
    st.caption(
        f"Single weights of {layer}: outputs {rows.start}-{rows.stop - 1}, columns {cols.start}-"
        f"{cols.stop - 1}. Square = both keep it, triangle up = only A, triangle down = only B, "
        "empty = neither."
    )


def _matrices(a: Masked, layer: str) -> tuple[np.ndarray, np.ndarray]:
    mask = a.mask(layer)
    assert mask is not None, "pages draw layers that have a mask"
    return matrix_of(mask), matrix_of(a.weights[layer])


def _zoom_to(selection: Mapping[str, Any]) -> None:
    """Move the window so that the clicked cell is in its corner."""
    if clicked := selection.get("cell"):
        for side in ("top", "left"):
            st.session_state[f"mask-{side}"] = int(clicked[0][side])


def _whole(pooled: Pooled, unit: tuple[int, int]) -> str:
    whole = pooled.rows % unit[0] == 0 and pooled.cols % unit[1] == 0 and unit != (1, 1)
    return f", in whole groups of {unit[0]} x {unit[1]}" if whole else ""


def _cells(pooled: Pooled) -> pd.DataFrame:
    rows, cols = np.indices(pooled.shares.shape).reshape(2, -1)
    return pd.DataFrame(
        {
            "first output": rows * pooled.rows,
            "first column": cols * pooled.cols,
            "share": pooled.shares.reshape(-1),
        }
    )


def _listed(
    first: np.ndarray,
    second: np.ndarray,
    rows: slice,
    cols: slice,
    names: tuple[str, str] = ("kept", "weight before pruning"),
) -> pd.DataFrame:
    top, left = np.mgrid[rows, cols].reshape(2, -1)
    return pd.DataFrame(
        {
            "output": top,
            "column": left,
            names[0]: first[rows, cols].reshape(-1),
            names[1]: second[rows, cols].reshape(-1),
        }
    )
