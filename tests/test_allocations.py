"""Allocations against worked examples, and the budget that all of them keep."""

import itertools

import pytest
import torch

from sparsity_core.allocations import ALLOCATIONS, Layer, Manual, lamp
from sparsity_core.errors import SparsityError
from sparsity_core.selection import count_pruned


def layers_of(**units):
    return {
        name: Layer(tuple(torch.as_tensor(u).shape), torch.as_tensor(u, dtype=torch.float32))
        for name, u in units.items()
    }


def random_layers(shapes):
    torch.manual_seed(0)
    return {f"layer{i}": Layer(tuple(s), torch.rand(tuple(s))) for i, s in enumerate(shapes)}


def test_uniform_by_eye():
    layers = layers_of(a=[1.0, 2.0], b=[3.0])
    assert ALLOCATIONS.make("uniform").sparsities(layers, 0.4) == {"a": 0.4, "b": 0.4}


def test_global_by_eye(vectors):
    example = vectors["global_vs_local_magnitude"]
    layers = layers_of(A=example["A"], B=example["B"])
    target = 1 - example["keep"] / 5
    assert ALLOCATIONS.make("global").sparsities(layers, target) == {"A": 0.0, "B": 1.0}


def test_global_is_one_sort_over_everything():
    layers = random_layers([(7, 5), (3, 11), (2, 2, 3, 3)])
    for target in (0.0, 0.1, 0.5, 0.93, 1.0):
        found = ALLOCATIONS.make("global").sparsities(layers, target)
        everything = torch.cat([layer.units.reshape(-1) for layer in layers.values()])
        cut = everything.sort().values[: round(target * len(everything))]
        for name, layer in layers.items():
            pruned = int(torch.isin(layer.units.reshape(-1), cut).sum())
            assert count_pruned(layer.units.numel(), found[name]) == pruned


def test_global_counts_weights_not_units():
    # 4 units of 25 weights against 100 units of 1: half of the weights are the 100 small units.
    layers = {
        "wide": Layer((4, 25), torch.full((4,), 2.0)),
        "thin": Layer((10, 10), torch.ones(100)),
    }
    found = ALLOCATIONS.make("global").sparsities(layers, 0.5)
    assert found == {"wide": 0.0, "thin": 1.0}


def test_erk_of_convolutions(vectors):
    example = vectors["erk_toy_conv"]
    layers = random_layers(example["shapes"])
    found = ALLOCATIONS.make("erk").sparsities(layers, 1 - example["density"])
    for (name, layer), density in zip(layers.items(), example["result"], strict=True):
        assert 1 - found[name] == pytest.approx(density, abs=1 / layer.size)


def test_flops_by_eye():
    # Equal scores within a layer; the cheap weights score lower, but each saves ten times less.
    layers = {
        "early": Layer((10,), torch.arange(10.0) + 100, macs=1000),
        "late": Layer((10,), torch.arange(10.0), macs=100),
    }
    found = ALLOCATIONS.make("flops").sparsities(layers, 0.5)
    # 550 products: all of the late layer (100), then four of the early one (400).
    assert found == {"early": 0.4, "late": 1.0}


@pytest.mark.parametrize("target", [0.0, 0.05, 0.5, 0.9, 1.0])
def test_flops_removes_the_lowest_units_while_the_budget_lasts(target):
    torch.manual_seed(0)
    shapes = {"a": (8, 16), "b": (40, 30), "c": (16, 8, 3, 3)}
    macs = {"a": 128 * 100, "b": 1200, "c": 1152 * 36}
    layers = {n: Layer(s, torch.rand(s), macs[n]) for n, s in shapes.items()}
    ranked = sorted((float(u), n) for n, layer in layers.items() for u in layer.units.reshape(-1))
    gone, left = dict.fromkeys(layers, 0), round(target * sum(macs.values()))
    for _, name in ranked:
        left -= macs[name] / layers[name].size
        if left < -1e-6:
            break
        gone[name] += 1
    found = ALLOCATIONS.make("flops").sparsities(layers, target)
    assert {n: round(s * layers[n].size) for n, s in found.items()} == gone


def test_flops_without_a_batch_to_count():
    with pytest.raises(SparsityError, match="no layer has any multiply-adds"):
        ALLOCATIONS.make("flops").sparsities(layers_of(a=[1.0, 2.0]), 0.5)


def test_threshold_by_eye():
    layers = layers_of(a=[0.4, 0.5, 2.0, 0.1], b=[3.0, 4.0])
    found = ALLOCATIONS.make("threshold", cut=0.5).sparsities(layers, 0.9)
    assert found == {"a": 0.5, "b": 0.0}


CURVES = {
    "a": ((0.5, 1.0), (1.0, 5.0)),  # 100 weights: 0.02 a weight, then 0.08
    "b": ((0.2, 1.0), (0.6, 2.0), (0.9, 8.0)),  # 200 weights: 0.0167 a weight to 0.6, then 0.1
}


def sensitivity_layers():
    return {"a": Layer((10, 10), torch.rand(10, 10)), "b": Layer((20, 10), torch.rand(20, 10))}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (0.0, {"a": 0.0, "b": 0.0}),
        (0.2, {"a": 0.0, "b": 0.3}),  # the dent of b at 0.2 lies above its hull
        (0.4, {"a": 0.0, "b": 0.6}),
        (0.5, {"a": 0.3, "b": 0.6}),
        (0.7, {"a": 0.9, "b": 0.6}),
        (0.85, {"a": 1.0, "b": 0.775}),
    ],
)
def test_sensitivity_by_eye(target, expected):
    found = ALLOCATIONS.make("sensitivity", curves=CURVES).sparsities(sensitivity_layers(), target)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(0.0, {"a": 0, "b": 0}), (1.0, {"a": 0, "b": 0.3}), (2.5, {"a": 0.25, "b": 0.6})]
    + [(100.0, {"a": 1.0, "b": 0.9})],
)
def test_sensitivity_with_a_budget_of_loss(budget, expected):
    made = ALLOCATIONS.make("sensitivity", curves=CURVES, loss_budget=budget)
    assert made.budget is None
    assert made.sparsities(sensitivity_layers(), 0.5) == pytest.approx(expected)


def test_sensitivity_is_the_cheapest_of_all_on_convex_curves():
    # Oracle: every division of the budget over three layers, weight by weight.
    sizes = {"a": 4, "b": 6, "c": 5}
    curves = {
        n: tuple((k / size, (i + 1) * (k / size) ** 2) for k in range(1, size + 1))
        for i, (n, size) in enumerate(sizes.items())
    }
    layers = {n: Layer((size,), torch.rand(size)) for n, size in sizes.items()}

    def loss(gone):
        return sum((i + 1) * (gone[n] / sizes[n]) ** 2 for i, n in enumerate(sizes))

    for total in range(16):
        found = ALLOCATIONS.make("sensitivity", curves=curves).sparsities(layers, total / 15)
        gone = {n: round(s * sizes[n]) for n, s in found.items()}
        best = min(
            loss(dict(zip(sizes, counts, strict=True)))
            for counts in itertools.product(*[range(size + 1) for size in sizes.values()])
            if sum(counts) == total
        )
        assert sum(gone.values()) == total
        assert loss(gone) == pytest.approx(best)


def test_sensitivity_says_what_is_missing():
    layers = sensitivity_layers()
    with pytest.raises(SparsityError, match="no curve of a; sweep"):
        ALLOCATIONS.make("sensitivity").sparsities(layers, 0.5)
    with pytest.raises(
        SparsityError, match=r"curves end with 0\.9333 of the weights gone, asked for 0\.95"
    ):
        ALLOCATIONS.make("sensitivity", curves=CURVES).sparsities(layers, 0.95)
    with pytest.raises(SparsityError, match="not finite"):
        ALLOCATIONS.make("sensitivity", curves={"a": ((0.5, float("nan")),)})


WEIGHT_BUDGETS = [
    kind
    for kind in ALLOCATIONS
    if kind != "sensitivity" and ALLOCATIONS.make(kind).budget == "weights"
]


@pytest.mark.parametrize("kind", WEIGHT_BUDGETS)
@pytest.mark.parametrize("target", [0.0, 0.05, 0.5, 0.9, 0.99, 1.0])
def test_budget_is_met(kind, target):
    layers = random_layers([(8, 16), (40, 30), (16, 8, 3, 3), (10, 40)])
    if kind == "uniform-plus" and target > 0.95:
        pytest.skip("the last layer keeps a fifth, so this budget cannot be met; tested above")
    found = ALLOCATIONS.make(kind).sparsities(layers, target)
    total = sum(layer.size for layer in layers.values())
    pruned = sum(found[name] * layer.size for name, layer in layers.items())
    assert list(found) == list(layers)
    assert all(0 <= s <= 1 for s in found.values())
    assert pruned == pytest.approx(target * total, abs=0.5)


def test_er_of_convolutions(vectors):
    example = vectors["er_toy_conv_no_kernel"]
    layers = random_layers([(s[-1], s[-2], *s[:-2]) for s in example["shapes"]])
    found = ALLOCATIONS.make("er").sparsities(layers, 1 - example["density"])
    for (name, layer), density in zip(layers.items(), example["result"], strict=True):
        assert 1 - found[name] == pytest.approx(density, abs=1 / layer.size)


@pytest.mark.parametrize("name", ["lamp_123", "lamp_unsorted"])
def test_lamp_scores_against_worked_examples(vectors, name):
    example = vectors[name]
    scores = lamp(torch.tensor(example["w"], dtype=torch.float64).abs())
    assert scores.tolist() == pytest.approx(example["score"], abs=1e-9)


def test_lamp_written_out_slowly():
    layers = random_layers([(7, 5), (3, 11), (2, 2, 3, 3)])
    ranked = []
    for name, layer in layers.items():
        values = [float(v) ** 2 for v in layer.units.reshape(-1).double()]
        ranked += [(v / sum(u for u in values if u >= v), name) for v in values]
    ranked.sort()
    for target in (0.1, 0.5, 0.9):
        gone = [name for _, name in ranked[: round(target * len(ranked))]]
        found = ALLOCATIONS.make("lamp").sparsities(layers, target)
        for name, layer in layers.items():
            assert found[name] * layer.size == pytest.approx(gone.count(name))


def test_lamp_keeps_the_tail_of_a_huge_layer():
    # In float32 a running sum of a million small squares stands still beside one large square.
    units = torch.full((1_000_000,), 1e-4)
    units[0] = 1e4
    scores = lamp(units)
    assert scores[0] == 1
    assert (scores[1:].diff() < 0).all()


def test_uniform_plus_by_eye():
    # 8 x 4 x 3 x 3 stays dense (288), the last of 40 keeps a fifth, the rest makes up for both.
    layers = random_layers([(8, 4, 3, 3), (40, 30), (4, 10)])
    found = ALLOCATIONS.make("uniform-plus").sparsities(layers, 0.75)
    assert found["layer0"] == 0
    assert found["layer2"] == 0.8
    assert found["layer1"] == pytest.approx((0.75 * 1528 - 0.8 * 40) / 1200)
    gentle = ALLOCATIONS.make("uniform-plus").sparsities(layers, 0.5)
    assert gentle["layer1"] == gentle["layer2"] == pytest.approx(0.5 * 1528 / 1240)
    with pytest.raises(SparsityError, match=r"cannot reach sparsity 0\.9"):
        ALLOCATIONS.make("uniform-plus").sparsities(layers, 0.9)


def test_manual_takes_what_it_is_given():
    manual = ALLOCATIONS.make("manual", layers={"a": 0.5})
    assert manual == Manual((("a", 0.5),))
    assert manual.sparsities(layers_of(a=[1.0, 2.0], b=[1.0]), 0.9) == {"a": 0.5, "b": 0.0}
    with pytest.raises(SparsityError, match="'x'"):
        Manual((("x", 0.5),)).sparsities(layers_of(a=[1.0]), 0.5)
    with pytest.raises(SparsityError, match=r"a: sparsity 90 .* write 0\.9"):
        Manual((("a", 90),))
