"""Tanaka et al. 2020 at initialisation: who empties a layer of VGG-16, and when."""

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


def test_synflow_keeps_every_layer_almost_to_the_end(vgg16):
    # 10^6.02 would be one weight a layer. Takes a minute or two.
    found = kept(vgg16, SynFlow(), SynFlowExponential(), 5.75)
    assert sum(found.values()) == round(14_761_664 / 10**5.75)
    assert all(1 <= n <= 4 for n in found.values())


def test_synflow_in_one_shot_empties_layers_as_others_do(vgg16):
    assert not all(kept(vgg16, SynFlow(), OneShot(), 5.75).values())
