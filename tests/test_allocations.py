"""Allocations against worked examples, and the budget that all of them keep."""

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


@pytest.mark.parametrize("density", ["0.5", "0.2", "0.1", "0.05", "0.02"])
def test_erk_of_lenet_300_100(vectors, density):
    example = vectors["erk_lenet_300_100"]
    layers = random_layers(example["shapes"])
    found = ALLOCATIONS.make("erk").sparsities(layers, 1 - float(density))
    for (name, layer), nnz in zip(
        layers.items(), example["by_density"][density]["nnz"], strict=True
    ):
        assert round((1 - found[name]) * layer.size) == pytest.approx(nnz, abs=1)


def test_erk_of_convolutions(vectors):
    example = vectors["erk_toy_conv"]
    layers = random_layers(example["shapes"])
    found = ALLOCATIONS.make("erk").sparsities(layers, 1 - example["density"])
    for (name, layer), density in zip(layers.items(), example["result"], strict=True):
        assert 1 - found[name] == pytest.approx(density, abs=1 / layer.size)


def resnet50_shapes():
    yield (64, 3, 7, 7)
    width_in = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            if block == 0:
                yield (4 * width, width_in, 1, 1)
            yield (width, width_in, 1, 1)
            yield (width, width, 3, 3)
            yield (4 * width, width, 1, 1)
            width_in = 4 * width
    yield (1000, 2048)


@pytest.mark.parametrize(("sparsity", "megabytes"), [(0.8, 23.683), (0.9, 13.499), (0.95, 8.399)])
def test_erk_reaches_rigls_published_storage_of_resnet50(sparsity, megabytes):
    # RigL's README: 4 bytes a non-zero and one bit a weight of each masked layer. Its 102.122 MB
    # for the dense net count one of the two batch-norm vectors (26560 numbers) and the last bias.
    layers = {str(i): Layer(s, torch.zeros(1)) for i, s in enumerate(resnet50_shapes())}
    found = ALLOCATIONS.make("erk").sparsities(layers, sparsity)
    kept = sum(round((1 - found[n]) * layer.size) for n, layer in layers.items())
    masked = sum(layer.size for n, layer in layers.items() if found[n] > 0)
    stored = 4 * (kept + 1000 + 26560) + masked / 8
    assert stored / 1e6 == pytest.approx(megabytes, abs=0.0015)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in ALLOCATIONS
        if ALLOCATIONS.make(kind).budget == "weights" and kind != "sensitivity"
    ],
)
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
