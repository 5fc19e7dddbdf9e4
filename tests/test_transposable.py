"""Masks that fit n:m in both directions: the best of all, by eye."""

import itertools

import pytest
import torch
from scipy.optimize import linprog

from sparsity_core.errors import SparsityError
from sparsity_core.structures import Transposable
from sparsity_core.structures.n_of_m import _patterns
from tests.test_structures import mask_of


def test_transposable_by_eye():
    # By rows alone 2:4 would keep the first two columns whole, which is 4 of 4 in each.
    scores = torch.tensor([[9.0, 8.0, 1.0, 0.0]] * 2 + [[9.0, 8.0, 2.0, 3.0]] * 2)
    expected = [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2
    assert mask_of("transposable-2:4", scores, 0.5).int().tolist() == expected


@pytest.mark.parametrize("shape", [(4, 4), (8, 12), (4, 8, 3, 3)])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (1, 2), (2, 3)])
def test_transposable_is_the_best_of_all_that_fit_both_directions(shape, n, m):
    if shape[0] % m or shape[1] % m:
        pytest.skip("the tiles do not fit")
    torch.manual_seed(0)
    scores = torch.rand(shape)
    mask = mask_of(f"transposable-{n}:{m}", scores, 1 - n / m)
    for position in itertools.product(*[range(size) for size in shape[2:]]):
        kept, value = mask[(..., *position)], scores[(..., *position)]
        for top, left in itertools.product(range(0, shape[0], m), range(0, shape[1], m)):
            tile = (slice(top, top + m), slice(left, left + m))
            assert (kept[tile].sum(0) == n).all()
            assert (kept[tile].sum(1) == n).all()
            # The oracle solves the same choice as a transport problem.
            most = linprog(
                -value[tile].reshape(-1).numpy(),
                A_eq=[[float(i // m == r) for i in range(m * m)] for r in range(m)]
                + [[float(i % m == c) for i in range(m * m)] for c in range(m)],
                b_eq=[n] * (2 * m),
                bounds=(0, 1),
            )
            assert value[tile][kept[tile]].sum().item() == pytest.approx(-most.fun, rel=1e-5)


def test_transposable_2_of_4_has_90_patterns(vectors):
    assert len(_patterns(2, 4)) == vectors["nm_2_4"]["n_patterns_2d_4x4_rowcol"]


def test_transposable_keeps_the_living():
    scores = torch.rand(4, 4)
    scores[0, :2] = -torch.inf
    assert mask_of("transposable-2:4", scores, 0.5)[0].tolist() == [False, False, True, True]


def test_impossible_transposable():
    with pytest.raises(SparsityError, match="m <= 4"):
        Transposable(4, 8)
