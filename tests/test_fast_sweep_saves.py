"""A fast sweep runs again only what it must, holds no more than it may, and says so before."""

import weakref

import pytest
import torch
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.prune import checked_scores
from sparsity_core.scorers.gradient import Taylor
from sparsity_core.scorers.weight import Magnitude
from sparsity_core.sweep.capture import capture
from sparsity_core.sweep.engine import held_bytes
from sparsity_core.sweep.plan import SweepPlan, plan_sweep
from sparsity_core.sweep.rerun import BATCH, Rerun
from sparsity_core.task import load_task
from sparsity_core.workbench import workbench
from tests.test_fast_sweep import Counted, Whole, assert_same, counted_task, task_of


def work_of(task, engine, budget=None, **options):
    """Samples that went through the input of each layer, besides what happens once a plan."""
    plan = plan_sweep(task, engine=engine, **options)
    bench = workbench(task, plan.setting)
    counters = [m for m in bench.model.modules() if isinstance(m, Counted)]
    assert bench.dense
    assert bench.probe(0).uses
    for counter in counters:
        counter.samples = 0
    found = list(plan.run(task, plan.points()))
    return found, [counter.samples for counter in counters]


def opaque_counters(monkeypatch):
    """Counters as they run in a captured program: one step each, not code that was followed."""
    from torch import fx

    old = fx.Tracer.is_leaf_module
    monkeypatch.setattr(
        fx.Tracer, "is_leaf_module", lambda s, m, n: isinstance(m, Counted) or old(s, m, n)
    )


@pytest.mark.parametrize("engine", ["bitwise", "exact"])
def test_only_what_is_behind_the_layer_runs_again(engine, monkeypatch):
    opaque_counters(monkeypatch)
    found, work = work_of(counted_task(), engine, sparsities=[0.5, 0.7, 0.9])
    assert {row.engine for row in found} == {engine}
    # 3 levels of each of the layers before, one dense pass, and what the program is checked on.
    checked = 8 * 4 * 2 + 8 * 4 + 2 * (8 + 4) + 8 + 3 * 40
    for place, samples in enumerate(work):
        assert samples <= 40 * (1 + 3 * place) + checked
    assert work[0] < work[1] < work[2] < work[3]


def test_equal_masks_are_measured_once(monkeypatch):
    opaque_counters(monkeypatch)
    options = {"layers": ["1"], "structures": ["out-channel"]}
    once, work = work_of(counted_task(), "bitwise", sparsities=[0.5], **options)
    twice, again = work_of(counted_task(), "bitwise", sparsities=[0.5, 0.51, 0.52], **options)
    assert [row.value for row in twice] == [once[0].value] * 3
    assert again == work


@pytest.mark.parametrize("budget", [2**30, 2 * 512 * 6 * 4, 0])
def test_dense_values_stay_within_the_budget(budget):
    task = counted_task(samples=2 * BATCH + 7)
    bench = workbench(task, plan_sweep(task).setting)
    rerun = Rerun(bench, capture(bench.model, task.validation.inputs[:3]), budget)
    assert rerun.held_bytes == min(budget, 3 * 512 * 6 * 4)  # one value of width 6 a layer
    for name, layer in rerun.layers.items():
        make = torch.Generator().manual_seed(3)
        variants = [{name: torch.rand(layer.shape, generator=make) > s} for s in (0.3, 0.6)]
        outputs = rerun.outputs(name, variants)
        for place, masks in enumerate(variants):
            with bench.masked(masks) as model, torch.no_grad():
                expected = [model(x) for x in task.validation.inputs.split(BATCH)]
            assert all(map(torch.equal, outputs(place), expected))
        inputs = task.validation.inputs.untyped_storage().data_ptr()
        held = [t for walk in rerun.walks for t in walk.held.values()]
        own = [t for t in held if t.untyped_storage().data_ptr() != inputs]
        assert sum(t.untyped_storage().nbytes() for t in own) <= budget


def test_a_value_is_gone_after_its_last_reader():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh()).eval()
    inputs = torch.ones(2, 4)
    made, alive = [], []
    with torch.no_grad():
        for _, value in capture(model, inputs).each(inputs):
            made.append(weakref.ref(value))
            del value
            alive.append([i for i, one in enumerate(made) if one() is not None])
    # Each needs the one before, and only the output stays.
    assert alive == [[0], [0, 1], [1, 2], [2, 3]]


def test_scores_that_are_soon_made_are_made_for_one_layer_and_not_kept():
    probe = workbench(load_task("digits-mlp"), plan_sweep(load_task("digits-mlp")).setting).probe(0)
    found = checked_scores(probe, Magnitude(), ["fc2.weight"])
    assert list(found) == ["fc2.weight"]
    assert torch.equal(found["fc2.weight"], probe.weights["fc2.weight"].abs())
    assert Magnitude() not in probe._known
    checked_scores(probe, Taylor(), ["fc2.weight"])
    assert set(probe._known[Taylor()]) == set(probe.layers)  # one pass over the data for all


@pytest.mark.parametrize("engine", ["bitwise", "exact"])
def test_what_will_be_held_is_known_before_the_run(engine):
    task = counted_task()
    setting = plan_sweep(task).setting
    # One value of width 6 a layer, and what comes out of a layer whose outputs are pruned.
    assert held_bytes(task, setting, engine) == 40 * 6 * 4 * (2 if engine == "exact" else 1)
    assert held_bytes(task_of(Whole()), plan_sweep(task_of(Whole())).setting, engine) == 0


@pytest.mark.parametrize("engine", ["bitwise", "exact"])
def test_memory_is_part_of_the_plan_and_changes_no_number_and_no_id(engine):
    task = counted_task(samples=2 * BATCH)
    usual = plan_sweep(task, sparsities=[0.5, 0.9], engine=engine)
    tight = plan_sweep(task, sparsities=[0.5, 0.9], engine=engine, memory=0)
    assert tight.points() == usual.points()
    assert "memory" not in usual.to_dict()
    assert SweepPlan.from_dict(tight.to_dict()) == tight != usual
    assert held_bytes(task, tight.setting, engine, tight.memory) == 0
    assert held_bytes(task, usual.setting, engine, usual.memory) > 0
    assert_same(list(tight.run(task, tight.points())), list(usual.run(task, usual.points())))
    with pytest.raises(SparsityError, match="memory must be 0 bytes or more"):
        plan_sweep(task, memory=-1)
