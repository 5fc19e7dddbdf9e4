"""A model of 100 million parameters is opened and measured within four times its memory."""

import sys

import pytest

from benchmarks.large_model import measured, write


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_point_of_a_large_model_takes_less_than_four_times_its_memory(tmp_path):
    size = write(tmp_path)
    assert size / 4 > 100e6
    assert size < measured("exact", tmp_path) < 4 * size
