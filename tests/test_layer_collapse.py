"""Tanaka et al. 2020 at initialisation: who empties a layer of VGG-16, and when."""

import math

import pytest

from benchmarks.layer_collapse import kept
from benchmarks.vgg16 import vgg16_bn
from sparsity_core.probe import Probe
from sparsity_core.schedules import OneShot, SynFlowExponential
from sparsity_core.scorers import Magnitude, SynFlow

# The share that each layer keeps at 10x in the paper's own data.
MAGNITUDE_10X = [0.892, 0.517, 0.516, 0.358, 0.356, 0.193, 0.194, 0.194, *[0.066] * 5, 0.541]


@pytest.fixture(scope="module")
def vgg16():
    return vgg16_bn()


def test_global_magnitude_keeps_the_published_shares(vgg16):
    sizes = [layer.size for layer in Probe(vgg16).layers.values()]
    found = kept(vgg16, Magnitude(), OneShot(), 1).values()
    shares = [n / size for n, size in zip(found, sizes, strict=True)]
    assert shares == pytest.approx(MAGNITUDE_10X, rel=0.02)


def test_magnitude_empties_a_layer_where_the_paper_says(vgg16):
    assert all(kept(vgg16, Magnitude(), OneShot(), 2.75).values())
    assert not all(kept(vgg16, Magnitude(), OneShot(), 3).values())


@pytest.fixture(scope="module")
def narrow():
    """All layers with an eighth of the channels: the whole model takes minutes, see benchmarks."""
    return vgg16_bn(width=1 / 8)


# 26 weights in 14 layers, as the paper's 10^5.75 leaves of the whole model.
ALMOST_ALL = math.log10(236_440 / 26)


def test_synflow_keeps_every_layer_almost_to_the_end(narrow):
    found = kept(narrow, SynFlow(), SynFlowExponential(), ALMOST_ALL)
    assert sum(found.values()) == 26
    assert all(1 <= n <= 4 for n in found.values())


def test_synflow_in_one_shot_empties_layers_as_others_do(narrow):
    assert not all(kept(narrow, SynFlow(), OneShot(), ALMOST_ALL).values())
