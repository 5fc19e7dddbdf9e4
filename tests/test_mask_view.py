"""Masks as pictures and numbers, against hand counts and slow loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.mask_view import (
    Agreement,
    agreement,
    column_name,
    dead_inputs,
    dead_outputs,
    matrix_of,
    pool,
    spans,
    sparsity_along,
    unit_size,
    window,
)
from sparsity_core.structures import STRUCTURES


def random_mask(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5


def test_matrix_puts_neighbouring_inputs_together():
    weight = torch.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    matrix = matrix_of(weight)
    assert matrix.shape == (2, 12)
    for output in range(2):
        for column in range(12):
            position, index = divmod(column, 3)
            assert matrix[output, column] == weight[output, index, position // 2, position % 2]


def test_columns_are_named_by_input_and_kernel_position():
    assert column_name(3, (5, 8)) == "input 3"
    assert column_name(0, (2, 3, 2, 2)) == "input 0 at (0, 0)"
    assert column_name(7, (2, 3, 2, 2)) == "input 1 at (1, 0)"
    assert column_name(4, (2, 3, 5)) == "input 1 at (1)"


def test_small_masks_are_not_pooled():
    mask = random_mask(10, 64).numpy()
    pooled = pool(mask)
    assert (pooled.rows, pooled.cols) == (1, 1)
    assert np.array_equal(pooled.shares, mask.astype(float))
    assert pooled.caption == "each cell = one weight"


@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    unit=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    most=st.integers(1, 12),
    seed=st.integers(0, 5),
)
def test_pooling_agrees_with_a_slow_loop(rows, cols, unit, most, seed):
    mask = random_mask(rows, cols, seed=seed).numpy()
    pooled = pool(mask, unit, most)
    for i in range(pooled.shares.shape[0]):
        for j in range(pooled.shares.shape[1]):
            cell = mask[
                i * pooled.rows : (i + 1) * pooled.rows, j * pooled.cols : (j + 1) * pooled.cols
            ]
            assert pooled.shares[i, j] == pytest.approx(cell.mean())
    assert max(pooled.shares.shape) <= most
    assert pooled.rows == 1 or pooled.rows % unit[0] == 0
    assert pooled.cols == 1 or pooled.cols % unit[1] == 0


def test_pooled_cells_never_cut_a_group():
    structure = STRUCTURES.make("2:4")
    scores = torch.randn(8, 72, generator=torch.Generator().manual_seed(0))
    mask = structure.expand(structure.choose(structure.units(scores), 0.5), (8, 72)).numpy()
    pooled = pool(mask, unit_size(structure), most=30)
    assert pooled.cols == 4
    assert (pooled.shares == 0.5).all()
    assert pooled.caption == "each cell = share kept of 1 x 4 weights"


def test_units_are_those_of_the_structure():
    assert unit_size(STRUCTURES.make("2:4")) == (1, 4)
    assert unit_size(STRUCTURES.make("block", rows=8, cols=2)) == (8, 2)
    assert unit_size(STRUCTURES.make("out-channel")) == (1, 1)


@pytest.mark.parametrize(
    ("size", "start", "expected"),
    [(100, 0, (0, 64)), (100, 20, (20, 84)), (100, 90, (36, 100)), (10, 5, (0, 10))],
)
def test_windows_stay_inside(size, start, expected):
    found = window(size, start)
    assert (found.start, found.stop) == expected


def test_sparsity_along_rows_and_columns():
    mask = np.array([[1, 0, 0, 1], [0, 0, 0, 0]], dtype=bool)
    assert sparsity_along(mask, 1).tolist() == [0.5, 1.0]
    assert sparsity_along(mask, 0).tolist() == [0.5, 1.0, 1.0, 0.5]


def test_dead_rows_and_columns_of_a_convolution():
    mask = torch.ones(4, 3, 2, 2, dtype=torch.bool)
    mask[1] = False
    mask[:, 2] = False
    mask[3, 0] = False  # input 0 is still read by others
    mask[0, 1, 0, 0] = False  # and so is one kernel position
    assert dead_outputs(mask) == [1]
    assert dead_inputs(mask) == [2]


def test_agreement_counts_every_weight_once():
    a = np.array([[1, 1, 0, 0], [1, 0, 0, 1]], dtype=bool)
    b = np.array([[1, 0, 1, 0], [1, 0, 0, 0]], dtype=bool)
    found = agreement(a, b)
    assert found == Agreement(both=2, only_a=2, only_b=1, neither=3)
    assert found.jaccard == pytest.approx(2 / 5)
    # 4 and 3 of 8 kept: 1.5 expected in both, 5.5 in any.
    assert found.by_chance == pytest.approx(1.5 / 5.5)
    assert found + found == Agreement(4, 4, 2, 6)


def test_agreement_of_equal_opposite_and_empty_masks():
    mask = random_mask(6, 6).numpy()
    assert agreement(mask, mask).jaccard == 1
    assert agreement(mask, ~mask).jaccard == 0
    nothing = np.zeros((2, 2), dtype=bool)
    assert agreement(nothing, nothing).jaccard is None
    assert agreement(nothing, nothing).by_chance is None


def test_chance_level_is_what_random_masks_show():
    pairs = [
        agreement(random_mask(50, 50, seed=s).numpy(), random_mask(50, 50, seed=s + 100).numpy())
        for s in range(20)
    ]
    shown = np.mean([pair.jaccard for pair in pairs])
    assert shown == pytest.approx(np.mean([pair.by_chance for pair in pairs]), abs=0.01)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([0, 1, 2, 3, 7, 9, 10], "0-3, 7, 9-10")],
)
def test_spans(numbers, text):
    assert spans(numbers) == text
