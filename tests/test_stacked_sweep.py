"""All levels of a layer behind one another in one batch, as a GPU has them."""

import pytest
import torch

from sparsity_core.sweep import rerun
from sparsity_core.sweep.capture import capture
from sparsity_core.sweep.fused import fuse
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.rescue import Rescue
from sparsity_core.workbench import workbench
from tests.test_exact_sweep import Chains
from tests.test_fast_sweep import task_of


def stacked(monkeypatch, size):
    """A rerun that stacks, though on the CPU, in pieces of so many rows."""
    torch.manual_seed(0)
    task = task_of(Chains(), torch.randn(41, 2, 9, 9))
    bench = workbench(task, plan_sweep(task).setting)
    sample = bench.samples.inputs[:3]
    monkeypatch.setattr(rerun, "BATCH", 16)  # the last one has 9
    made = Rescue(bench, fuse(capture(bench.model, sample), sample), budget=0, cut=True)
    made.near = False
    made.pieces = dict.fromkeys(made.pieces, size)
    return made


@pytest.mark.parametrize("size", [1, 8, 1000])
def test_stacked_levels_are_the_models_outputs(monkeypatch, size):
    again = stacked(monkeypatch, size)
    for name, layer in again.layers.items():
        drawn = torch.rand(layer.shape)
        variants = [{name: drawn >= sparsity} for sparsity in (0, 0.5, 0.9)]
        outputs = again.outputs(name, variants)
        for place, masks in enumerate(variants):
            found = torch.cat(outputs(place))
            own = again.own(masks, torch.arange(41))
            torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "rows"), [(1000, [48, 48, 27]), (24, [24, 24, 24, 24, 24, 3])])
def test_what_follows_a_layer_runs_once_for_all_levels(monkeypatch, size, rows):
    again = stacked(monkeypatch, size)
    last = again.program.steps[-1].call
    call, found = type(last).__call__, []

    def counted(this, x):
        if this is last:
            found.append(len(x))
        return call(this, x)

    monkeypatch.setattr(type(last), "__call__", counted)
    first = next(iter(again.layers))
    drawn = torch.rand(again.layers[first].shape)
    variants = [{first: drawn >= sparsity} for sparsity in (0, 0.5, 0.9)]
    again.outputs(first, variants)(0)
    assert found == rows
