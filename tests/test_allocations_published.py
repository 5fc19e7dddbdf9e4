"""Allocations of LeNet-300-100 and ResNet-50 against what papers published of them."""

import pytest
import torch

from sparsity_core.allocations import ALLOCATIONS, Layer


def random_layers(shapes):
    torch.manual_seed(0)
    return {f"layer{i}": Layer(tuple(s), torch.rand(tuple(s))) for i, s in enumerate(shapes)}


@pytest.mark.parametrize("density", ["0.5", "0.2", "0.1", "0.05", "0.02"])
def test_erk_of_lenet_300_100(vectors, density):
    example = vectors["erk_lenet_300_100"]
    layers = random_layers(example["shapes"])
    found = ALLOCATIONS.make("erk").sparsities(layers, 1 - float(density))
    for (name, layer), nnz in zip(
        layers.items(), example["by_density"][density]["nnz"], strict=True
    ):
        assert round((1 - found[name]) * layer.size) == pytest.approx(nnz, abs=1)


def resnet50():
    """(shape, multiply-adds for one picture of 224 x 224) of each weight, strides in the 3x3."""
    yield (64, 3, 7, 7), 64 * 3 * 49 * 112**2
    width_in, side = 64, 56
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            before, side = side, side // 2 if block == 0 and width > 64 else side
            if block == 0:
                yield (4 * width, width_in, 1, 1), 4 * width * width_in * side**2
            yield (width, width_in, 1, 1), width * width_in * before**2
            yield (width, width, 3, 3), width * width * 9 * side**2
            yield (4 * width, width, 1, 1), 4 * width * width * side**2
            width_in = 4 * width
    yield (1000, 2048), 1000 * 2048


def resnet50_layers():
    return {str(i): Layer(s, torch.zeros(1), macs) for i, (s, macs) in enumerate(resnet50())}


def rigl_megabytes(layers, found):
    """RigL's README: 4 bytes a non-zero and one bit a weight of each masked layer. Its 102.122 MB
    for the dense net count one of the two batch-norm vectors (26560 numbers) and the last bias."""
    kept = sum(round((1 - found.get(n, 0)) * layer.size) for n, layer in layers.items())
    masked = sum(layer.size for n, layer in layers.items() if found.get(n, 0) > 0)
    return (4 * (kept + 1000 + 26560) + masked / 8) / 1e6


def test_the_dense_resnet50_of_the_papers():
    layers = resnet50_layers()
    assert rigl_megabytes(layers, {}) == pytest.approx(102.122, abs=0.001)
    assert 2 * sum(layer.macs for layer in layers.values()) == pytest.approx(8.189e9, rel=0.002)


@pytest.mark.parametrize(("sparsity", "megabytes"), [(0.8, 23.683), (0.9, 13.499), (0.95, 8.399)])
def test_erk_reaches_rigls_published_storage_of_resnet50(sparsity, megabytes):
    layers = resnet50_layers()
    found = ALLOCATIONS.make("erk").sparsities(layers, sparsity)
    assert rigl_megabytes(layers, found) == pytest.approx(megabytes, abs=0.0015)


@pytest.mark.parametrize(("sparsity", "megabytes"), [(0.9, 13.532), (0.95, 8.433)])
def test_uniform_reaches_rigls_published_storage_of_resnet50(sparsity, megabytes):
    # The first convolution stays dense. The 23.685 MB published for 80 % are an erratum: the same
    # formula gives 23.729.
    layers = resnet50_layers()
    rest = {name: layer for name, layer in layers.items() if name != "0"}
    found = ALLOCATIONS.make("uniform").sparsities(rest, sparsity)
    assert rigl_megabytes(layers, found) == pytest.approx(megabytes, abs=0.0015)


@pytest.mark.parametrize(
    ("kind", "sparsity", "published", "counted"),
    [("erk", 0.8, 0.42, 0.4146), ("erk", 0.9, 0.24, 0.2429), ("erk", 0.95, 0.12, 0.1229)]
    + [("uniform", 0.8, 0.23, 0.2241), ("uniform", 0.9, 0.13, 0.1272)]
    + [("uniform", 0.95, 0.08, 0.0787)],
)
def test_multiply_adds_of_rigls_resnet50(kind, sparsity, published, counted):
    # Published to two digits; SRigL's notebook lists more. They count norms and biases too.
    layers = resnet50_layers()
    free = {n: layer for n, layer in layers.items() if kind == "erk" or n != "0"}
    found = ALLOCATIONS.make(kind).sparsities(free, sparsity)
    left = sum((1 - found.get(n, 0)) * layer.macs for n, layer in layers.items())
    share = left / sum(layer.macs for layer in layers.values())
    assert share == pytest.approx(counted, abs=0.002)
    assert share == pytest.approx(published, abs=0.0075)
