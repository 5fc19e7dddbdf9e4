"""Structures: masks by eye, against torch and slow definitions; counts exact and nested."""

import itertools
import math

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.selection import count_pruned, keep_best
from sparsity_core.structures import STRUCTURES, AttentionHead, Block, NofM

SHAPES = [(8, 16), (4, 8), (16, 8, 3, 3), (4, 4, 1, 1), (8, 4, 3), (4, 4, 2, 2, 2), (12, 20)]
EXAMPLES = [
    "constant-fan-in",
    "unstructured",
    "out-channel",
    "in-channel",
    "4x4",
    "2x1",
    "1x4",
    "2:4",
    "1:4",
    "3:4",
    "kernel",
    "attention-head(2)",
    "transposable-2:4",
    "transposable-1:2",
]


def make(text):
    return AttentionHead(2) if text == "attention-head(2)" else STRUCTURES.make(text)


def mask_of(structure, scores, sparsity):
    made = make(structure)
    return made.expand(made.choose(made.units(scores), sparsity), tuple(scores.shape))


def test_every_kind_has_an_example():
    assert {STRUCTURES.kind_of(make(text)) for text in EXAMPLES} == set(STRUCTURES)


@pytest.mark.parametrize(
    ("structure", "sparsity", "expected"),
    [
        ("unstructured", 0.5, [[0, 1, 1, 0], [0, 0, 1, 1]]),
        ("out-channel", 0.5, [[0, 0, 0, 0], [1, 1, 1, 1]]),
        ("in-channel", 0.5, [[0, 0, 1, 1], [0, 0, 1, 1]]),
        ("2x2", 0.5, [[0, 0, 1, 1], [0, 0, 1, 1]]),
        ("1x2", 0.5, [[1, 1, 0, 0], [0, 0, 1, 1]]),
        ("2:4", 0.5, [[0, 1, 1, 0], [0, 0, 1, 1]]),
        ("constant-fan-in", 0.75, [[0, 1, 0, 0], [0, 0, 0, 1]]),
        ("1:4", 0.75, [[0, 1, 0, 0], [0, 0, 0, 1]]),
    ],
)
def test_by_eye(structure, sparsity, expected):
    scores = torch.tensor([[1.0, 6.0, 5.0, 1.0], [0.0, 2.0, 7.0, 8.0]])
    assert mask_of(structure, scores, sparsity).int().tolist() == expected


def test_against_worked_examples(vectors):
    weight = torch.tensor(vectors["magnitude_2x3"]["W"]).abs()
    assert (
        mask_of("unstructured", weight, 0.5).int().tolist()
        == (vectors["magnitude_2x3"]["keep3_mask"])
    )
    ten = torch.arange(1.0, 11.0)[None]
    expected = vectors["rounding_conventions_w_1_to_10_p_0.2"]["exact_topk"]
    assert mask_of("unstructured", ten, 0.2).int().tolist() == [expected]
    example = vectors["nm_2_4"]
    scores = torch.tensor(example["W"]).abs()
    for structure, key in (("2:4", "mask"), ("1:4", "mask_1_4"), ("4:8", "mask_4_8")):
        fixed = STRUCTURES.make(structure).fixed_sparsity
        assert mask_of(structure, scores, fixed).int().tolist() == example[key]


@pytest.mark.parametrize(
    ("units", "sparsity", "pruned"),
    [(10, 0.0, 0), (10, 0.2, 2), (10, 0.24, 2), (10, 0.25, 2), (10, 0.26, 3), (10, 0.95, 9)]
    + [(100, 0.29, 29), (6, 0.95, 5), (6, 1.0, 6), (1, 0.99, 0), (1, 1.0, 1), (3, 0.5, 1)],
)
def test_counts_by_eye(units, sparsity, pruned):
    assert count_pruned(units, sparsity) == pruned


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_counts_are_nearest_and_never_fall(units, one, other):
    low, high = sorted((one, other))
    assert count_pruned(units, low) <= count_pruned(units, high)
    if 0 < high < 1 - 1 / units:
        assert abs(count_pruned(units, high) - high * units) <= 0.5 + 1e-5


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("amount", [0.0, 0.13, 0.5, 0.87])
def test_unstructured_agrees_with_torch(shape, amount):
    torch.manual_seed(0)
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.randn(shape))
    scores = layer.weight.detach().abs()
    torch_prune.l1_unstructured(layer, "weight", amount)
    assert torch.equal(mask_of("unstructured", scores, amount), layer.weight_mask.bool())


def test_out_channel_agrees_with_torch():
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 10, 3)
    scores = layer.weight.detach().abs()
    torch_prune.ln_structured(layer, "weight", 0.3, n=1, dim=0)
    assert torch.equal(mask_of("out-channel", scores, 0.3), layer.weight_mask.bool())


@pytest.mark.parametrize("shape", [(4, 8), (4, 8, 3, 3), (7, 5)])
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.9])
def test_constant_fan_in_takes_the_best_of_each_row(shape, sparsity):
    torch.manual_seed(0)
    scores = torch.rand(shape)
    mask = mask_of("constant-fan-in", scores, sparsity)
    rows = scores.flatten(1)
    kept = rows.shape[1] - count_pruned(rows.shape[1], sparsity)
    for row, chosen in zip(rows, mask.flatten(1), strict=True):
        assert set(row.topk(kept).indices.tolist()) == set(chosen.nonzero()[:, 0].tolist())


@pytest.mark.parametrize("shape", [(4, 8), (4, 8, 3, 3), (2, 4, 5)])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (1, 2)])
def test_n_of_m_counts_along_input_channels_at_each_kernel_position(shape, n, m):
    torch.manual_seed(0)
    scores = torch.rand(shape)
    mask = mask_of(f"{n}:{m}", scores, 1 - n / m)
    kernel = [range(size) for size in shape[2:]]
    for row, start in itertools.product(range(shape[0]), range(0, shape[1], m)):
        for position in itertools.product(*kernel):
            group = [(row, start + i, *position) for i in range(m)]
            best = sorted(group, key=lambda index: -scores[index].item())[:n]
            assert {index for index in group if mask[index]} == set(best)


@pytest.mark.parametrize("shape", [(4, 8), (4, 8, 3, 3)])
@pytest.mark.parametrize(("rows", "cols"), [(2, 4), (4, 1), (1, 8)])
def test_blocks_written_out_slowly(shape, rows, cols):
    torch.manual_seed(0)
    scores = torch.rand(shape)
    mask = mask_of(f"{rows}x{cols}", scores, 0.5)
    kernel = list(itertools.product(*[range(size) for size in shape[2:]]))
    tiles = {}
    for row, position, col in itertools.product(
        range(0, shape[0], rows), kernel, range(0, shape[1], cols)
    ):
        tile = scores[(slice(row, row + rows), slice(col, col + cols), *position)]
        tiles[row, position, col] = tile.mean().item()
    best = set(sorted(tiles, key=lambda key: -tiles[key])[: len(tiles) // 2])
    for key in tiles:
        row, position, col = key
        tile = mask[(slice(row, row + rows), slice(col, col + cols), *position)]
        assert tile.all() if key in best else not tile.any()


@pytest.mark.parametrize("text", EXAMPLES)
@pytest.mark.parametrize("shape", SHAPES)
def test_exact_counts_nested_and_repeatable(text, shape):
    structure = make(text)
    if structure.fits(shape):
        pytest.skip(f"{text} does not fit {shape}")
    torch.manual_seed(0)
    scores = torch.rand(shape)
    fixed = structure.fixed_sparsity
    levels = [0.0, 0.1, 0.5, 0.77, 0.95] if fixed is None else [0.0, fixed]
    previous = torch.ones(shape, dtype=torch.bool)
    for sparsity in levels:
        assert structure.refuses(sparsity) is None
        mask = mask_of(text, scores, sparsity)
        assert mask.shape == shape
        assert mask.dtype == torch.bool
        units = structure.units(scores)
        pruned = count_pruned(units.numel(), sparsity)
        if text.startswith("transposable") and sparsity:
            pruned = round(units.numel() * fixed)
        if text == "constant-fan-in":
            pruned = len(units) * count_pruned(units.shape[1], sparsity)
        assert int((~mask).sum()) == pruned * (scores.numel() // units.numel())
        assert not (mask & ~previous).any()
        assert torch.equal(mask, mask_of(text, scores.clone(), sparsity))
        previous = mask


@pytest.mark.parametrize("text", EXAMPLES)
def test_all_scores_equal_the_first_stay(text):
    shape = (12, 16) if text != "kernel" else (12, 16, 3)
    mask = mask_of(text, torch.ones(shape), make(text).fixed_sparsity or 0.5)
    assert mask.reshape(-1)[0]
    if not text.startswith("transposable"):  # whose last pattern cannot end in the last corner
        assert not mask.reshape(-1)[-1]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.data())
def test_keep_best_is_a_stable_sort(values, data):
    pruned = data.draw(st.integers(0, len(values)))
    ranked = sorted(range(len(values)), key=lambda i: -values[i])  # Python's sort is stable
    expected = set(ranked[: len(values) - pruned])
    # Zero stands for a dead unit, which is how rounds after the first see most of a layer.
    units = torch.tensor([-math.inf if v == 0 else v for v in values], dtype=torch.float32)
    kept = keep_best(units, pruned)
    assert torch.equal(kept, keep_best(torch.stack([units, units]), pruned)[1])
    assert {i for i, keep in enumerate(kept) if keep} == expected


@pytest.mark.parametrize(
    ("text", "shape", "groups", "reason"),
    [
        ("2:4", (5, 6), 1, "needs a multiple of 4 inputs, got 6"),
        ("2:4", (8, 1, 3, 3), 8, "needs a multiple of 4 inputs, got 1"),
        ("4x4", (6, 8), 1, "needs a multiple of 4 outputs, got 6"),
        ("4x4", (8, 6), 1, "needs a multiple of 4 inputs, got 6"),
        ("4x4", (4, 4), 1, "has 1 block: pruning would empty"),
        ("out-channel", (1, 8), 1, "has 1 output: pruning would empty"),
        ("in-channel", (8, 1, 3, 3), 1, "has 1 input: pruning would empty"),
        ("in-channel", (8, 2, 3, 3), 4, "in 4 groups"),
        ("unstructured", (0, 4), 1, "has no weights"),
        ("kernel", (8, 4, 1, 1), 1, "kernels of one weight"),
        ("kernel", (1, 1, 3, 3), 1, "has 1 kernel"),
        ("attention-head", (12, 4), 1, "holds no queries, keys and values"),
        ("attention-head(2)", (10, 4), 1, "needs a multiple of 3 x 2 outputs, got 10"),
        ("transposable-2:4", (6, 8), 1, "needs a multiple of 4 outputs, got 6"),
        ("transposable-2:4", (8, 6), 1, "needs a multiple of 4 inputs, got 6"),
    ],
)
def test_refusals_name_what_is_needed(text, shape, groups, reason):
    assert reason in make(text).fits(shape, groups)


def test_n_of_m_has_one_sparsity():
    assert STRUCTURES.make("2:4").refuses(0.5) is None
    assert "asked for 0.8" in STRUCTURES.make("2:4").refuses(0.8)


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (2, 65)])
def test_impossible_n_of_m(n, m):
    with pytest.raises(SparsityError, match="1 <= n <= m <= 64"):
        NofM(n, m)


def test_impossible_block():
    with pytest.raises(SparsityError, match="1 or more"):
        Block(0, 4)


def test_kernel_by_eye():
    scores = torch.tensor([[[1.0, 3.0], [4.0, 4.0]], [[9.0, 0.0], [0.0, 1.0]]])  # means 2 4 4.5 0.5
    expected = [[[0, 0], [1, 1]], [[1, 1], [0, 0]]]
    assert mask_of("kernel", scores, 0.5).int().tolist() == expected
