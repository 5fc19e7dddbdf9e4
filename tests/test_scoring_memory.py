"""Scorers hold no more memory than they state; layer by layer they hold less."""

import sys

import pytest

from benchmarks.scoring_memory import measured
from sparsity_core.scorers import SCORERS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
WIDTH = 1500
NOISE = 0.5  # of 27 MB of weights: what the process holds besides varies by some megabytes


@pytest.mark.parametrize("kind", ["magnitude", "taylor", "wanda", "woodfisher"])
def test_no_more_than_stated_and_less_layer_by_layer(kind):
    at_once = measured(kind, False, WIDTH)
    stated = SCORERS.make(kind).memory
    assert stated - 1.5 < at_once < stated + NOISE  # a statement far above would say nothing
    assert measured(kind, True, WIDTH) < 0.7 * at_once
