"""The benchmarks of sweeps: what they count is right, and they stop when counts differ."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import peer_loops
from benchmarks.decide import tally
from benchmarks.peer_loops import LOOPS, magnitude_mask
from benchmarks.sweep import measured
from benchmarks.sweep_gpu import PEERS, raced, table
from benchmarks.sweep_growth import AXES, ENGINE, LOOP, Size, one, picture
from benchmarks.sweep_models import deep_resnet
from benchmarks.work import suffix_flops
from sparsity_core.sweep.engines import ENGINES


def test_work_of_suffixes_by_hand():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    # 2 x 4 x 3 and 2 x 3 x 2 operations; from the first layer on, both.
    assert suffix_flops(model, torch.zeros(1, 4)) == {"0.weight": 36, "2.weight": 12}
    # A 3x3 convolution of 1 to 2 channels at 4 x 4 places: 2 x 9 x 2 x 16.
    conv = nn.Conv2d(1, 2, 3, padding=1)
    assert suffix_flops(conv, torch.zeros(1, 1, 4, 4)) == {"weight": 576}


def test_masks_of_the_loops_by_hand():
    weight = nn.Parameter(torch.tensor([[1.0, -3.0], [1.0, 2.0]]))
    assert magnitude_mask(weight, 0.5).tolist() == [[0, 1], [0, 1]]
    assert magnitude_mask(weight, 0.25).tolist() == [[1, 1], [0, 1]]  # the first of equals stays


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "verified"])
def test_engines_and_loops_count_the_same(engine):
    task = deep_resnet(blocks=1, samples=24)
    found = measured(task, engine, (0.5, 0.8), repeats=1, peers=list(LOOPS))
    assert found.points == 2 * 10
    assert set(found.seconds) == {*LOOPS, engine}
    assert found.limit > 0
    assert engine in found.engines


def test_a_wrong_count_stops_the_benchmark(monkeypatch):
    monkeypatch.setattr(peer_loops, "correct", lambda *_: 1)
    task = deep_resnet(blocks=1, samples=24)
    with pytest.raises(SystemExit, match="counts 1, the engine"):
        measured(task, "reference", (0.5,), repeats=1, peers=["in place"])


def test_the_race_on_a_gpu_says_where_counts_differ():
    task = deep_resnet(blocks=1, samples=24)
    raced_here = raced(task, "cpu", [*PEERS, "exact"], (0.5,), repeats=1)
    assert [counts for _, counts in raced_here.values()] == [raced_here["in place"][1]] * 4
    found = {
        "in place": (6.0, {("a", 0.5): 7, ("b", 0.5): 8}),
        "DataLoader": (9.0, {("a", 0.5): 7, ("b", 0.5): 8}),
        "exact": (1.5, {("a", 0.5): 7, ("b", 0.5): 5}),
    }
    *_, line = table("net", 10, found)
    assert line.split() == [
        "net",
        "10",
        "2",
        "exact",
        "1.50",
        "4.00x",
        "-",
        "6.00x",
        "1",
        "by",
        "3",
    ]


def test_growth_is_measured_and_drawn(tmp_path):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of memory can be begun anew on Linux only")
    found = one(Size(blocks=1, levels=2, samples=16, width=4))
    assert (found["layers"], found["parameters"]) == (10, 5214)
    assert min(found[LOOP], found[ENGINE]) > 0
    assert math.isfinite(found["MiB"])  # of so small a model less than what comes and goes
    frame = pd.DataFrame([{"grown": grown, "levels": 2, "samples": 16} | found for grown in AXES])
    panels = [panel for row in picture(frame).to_dict()["vconcat"] for panel in row["hconcat"]]
    titles = [panel["layer"][0]["encoding"]["x"]["title"] for panel in panels]
    assert titles == 2 * ["layers", "levels", "samples", "parameters"]


def test_tally_of_early_answers():
    lost = np.repeat([1.0, 0.0], [150, 350])
    points = np.stack([np.zeros(500), lost, 0.2 * lost])
    found = tally(points, np.ones(500), threshold=0.1, error=0.05, families=20)
    assert (found.decisions, found.families, found.wrong, found.spoilt) == (60, 20, 0, 0)
    assert found.samples.mean() < 250
