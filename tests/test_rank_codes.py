"""Masks of many levels from one partition: those that each level's own choice gives."""

import pytest
import torch

from sparsity_core.prune import masks_from_units, unit_scores
from sparsity_core.scorers import SCORERS
from sparsity_core.selection import count_pruned, keep_best, rank_codes
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.levels import Levels
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task
from sparsity_core.workbench import workbench


def test_codes_by_hand():
    units = torch.tensor([3.0, 1.0, 2.0, 1.0, 2.0])
    # One goes: the second of the ones. Three go: the ones and the second of the twos.
    assert rank_codes(units, [0, 1, 3, 5]).tolist() == [3, 2, 3, 1, 2]


@pytest.mark.parametrize("values", [3, 40, 10**6])  # few values: many ties
def test_codes_are_the_choices_of_each_level(values):
    make = torch.Generator().manual_seed(values)
    for count in (1, 2, 17, 400):
        units = torch.randint(values, (count,), generator=make).float()
        units[::7] = -torch.inf
        pruned = [count_pruned(count, i / 12) for i in range(13)]
        codes = rank_codes(units, pruned)
        assert codes.dtype == torch.uint8
        for level, gone in enumerate(pruned):
            assert torch.equal(codes > level, keep_best(units, gone))


@pytest.mark.parametrize("structure", ["unstructured", "out-channel", "in-channel", "2:4"])
def test_levels_have_the_masks_of_each_sparsity(structure):
    task = load_task("digits-lenet")
    sparsities = [0.5] if structure == "2:4" else [0, 0.3, 0.5, 0.51, 0.9, 1]
    plan = plan_sweep(task, structures=[structure], sparsities=sparsities)
    bench = workbench(task, plan.setting)
    probe, scorer = bench.probe(0), SCORERS.make("magnitude")
    for points in plan.groups(plan.points()):
        levels = Levels(bench, points)
        if levels.refused:
            continue
        name, shape = points[0].layer, STRUCTURES.make(structure)
        units = unit_scores(probe, name, scorer.score(probe)[name], scorer, shape)
        for sparsity in sparsities:
            found = levels.distinct[levels.place(sparsity)]
            right = masks_from_units(probe.layers[name], units, shape, sparsity)
            assert found.keys() == right.keys()
            assert all(torch.equal(found[n], right[n]) for n in right)
