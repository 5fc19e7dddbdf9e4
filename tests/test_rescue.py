"""Single samples under many masks in one pass, against the masked model."""

import pytest
import torch

from sparsity_core.sweep.capture import capture
from sparsity_core.sweep.fused import fuse
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.rerun import BATCH, BUDGET
from sparsity_core.sweep.rescue import Rescue
from sparsity_core.sweep.shapes import filled_up, rounded_up
from sparsity_core.task import load_task
from sparsity_core.workbench import workbench


@pytest.mark.parametrize("budget", [0, BUDGET])
@pytest.mark.parametrize("name", ["digits-resnet", "digits-vit"])
def test_each_sample_is_run_under_its_own_masks(name, budget):
    task = load_task(name)
    bench = workbench(task, plan_sweep(task, split="train").setting)
    sample = bench.samples.inputs[:8]
    rescue = Rescue(bench, fuse(capture(bench.model, sample), sample), budget, cut=True)
    draw = torch.Generator().manual_seed(0)
    chosen = [torch.arange(BATCH - 3, BATCH + 2), torch.tensor([7]), torch.arange(0, 700)]
    for layer in list(rescue.layers)[::4]:
        shape = rescue.layers[layer].shape
        masks = [{layer: torch.rand(shape, generator=draw) > s} for s in (0.2, 0.5, 0.8)]
        found = rescue.some(layer, list(zip(masks, chosen, strict=True)))
        for mask, numbers, outputs in zip(masks, chosen, found, strict=True):
            with bench.masked(mask) as model, torch.no_grad():
                torch.testing.assert_close(
                    outputs, model(bench.samples.inputs[numbers]), rtol=1e-4, atol=1e-4
                )


def test_numbers_of_samples_are_rounded_up_to_few():
    assert [rounded_up(n) for n in (1, 16, 17, 64, 65)] == [16, 16, 32, 64, 128]
    assert filled_up(torch.tensor([3, 5]), 4).tolist() == [3, 5, 5, 5]
