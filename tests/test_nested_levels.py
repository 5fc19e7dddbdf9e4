"""All levels of a linear layer in one pass: the same outputs, and the same counts of a sweep."""

from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn

from sparsity_core.sweep import together as module
from sparsity_core.sweep.capture import capture
from sparsity_core.sweep.fused import fuse
from sparsity_core.sweep.nested import NestedLinear, survivals
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.program import suffix_of
from sparsity_core.sweep.rerun import Rerun
from sparsity_core.sweep.together import Together, pays, together
from sparsity_core.sweep.ways import ways
from sparsity_core.task import load_task
from sparsity_core.workbench import workbench
from tests.test_exact_sweep import assert_same_but_rounding
from tests.test_fast_sweep import rows, task_of


@pytest.fixture
def always(monkeypatch):
    """Every layer that can goes at once, however small; the list fills with those that did."""
    made = []

    def counted(this, dense, call=Together.__call__):
        made.append(this.own.name)
        return call(this, dense)

    monkeypatch.setattr(module, "_ROWS", 1)
    monkeypatch.setattr(module, "_WORK", 0)
    monkeypatch.setattr(Together, "__call__", counted)
    return made


def test_two_levels_by_eye():
    weight = torch.tensor([[1.0, 2.0, 3.0]])
    codes = torch.tensor([[2, 0, 1]], dtype=torch.uint8)
    found = NestedLinear(weight, codes, 2, torch.tensor([0.5]))(torch.tensor([[1.0, 10.0, 100.0]]))
    assert found.tolist() == [[[301.5]], [[1.5]]]


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (16, 16), (17, 33), (300, 50)])
@pytest.mark.parametrize("samples", [1, 3, 64, 130])
def test_each_level_is_the_product_with_what_it_keeps(shape, samples):
    make = torch.Generator().manual_seed(0)
    weight, x = torch.randn(shape, generator=make), torch.randn(samples, shape[1], generator=make)
    bias = torch.randn(shape[0], generator=make)
    some = [torch.rand(shape, generator=make)]
    everything, nothing = torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    half, few = some[0] > 0.5, some[0] > 0.9
    few[0] = half[0]  # an output whose bucket is empty
    for masks in ([half], [everything], [nothing, nothing], [everything, half, half, few, nothing]):
        codes = survivals(masks)
        for added in (bias, None):
            found = NestedLinear(weight, codes, len(masks), added)(x)
            for level, mask in zip(found, masks, strict=True):
                kept = (weight * mask).double()
                right = x.double() @ kept.T + (0 if added is None else added.double())
                torch.testing.assert_close(level.double(), right, rtol=1e-5, atol=1e-5)


def test_tokens_keep_their_axes_and_threads_their_panels():
    x, weight = torch.randn(3, 70, 20), torch.randn(6, 20)
    codes = survivals([weight > -1, weight > 0])
    nested = NestedLinear(weight, codes, 2, None)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = nested(x)
        torch.set_num_threads(2)
        assert torch.equal(nested(x), alone)
    finally:
        torch.set_num_threads(threads)
    assert alone.shape == (2, 3, 70, 6)
    torch.testing.assert_close(alone[1], x @ (weight * (weight > 0)).T, rtol=1e-5, atol=1e-5)


def test_masks_that_do_not_lie_within_each_other_have_no_codes():
    first = torch.tensor([[True, False]])
    assert survivals([first, ~first]) is None
    assert survivals([first & ~first, first]) is None
    assert survivals([first, first, first & ~first]).tolist() == [[2, 0]]


class Small(nn.Module):
    """A linear layer with a ReLU, one that is added to something, one on tokens, and the last."""

    def __init__(self):
        super().__init__()
        self.first, self.added = nn.Linear(6, 19), nn.Linear(19, 19, bias=False)
        self.tokens, self.last = nn.Linear(1, 4), nn.Linear(19, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = self.added(x) + x
        return self.last(nn.functional.gelu(self.tokens(x[:, :, None])).sum(2))


def test_counts_are_the_references_on_a_small_net(always):
    torch.manual_seed(0)
    task = task_of(Small(), torch.randn(200, 6))
    options = {"sparsities": [0, 0.5, 0.9, 1]}
    found = rows(task, "exact", **options)
    assert len(set(always)) == 4
    assert_same_but_rounding(found, rows(task, "reference", **options))
    assert {row.engine for row in found} == {"exact"}


def test_counts_are_the_references_on_digits_mlp(always):
    task = load_task("digits-mlp")
    options = {"sparsities": [0.5, 0.7, 0.9], "scorers": ["magnitude", "random"]}
    found = rows(task, "exact", **options)
    assert always
    assert_same_but_rounding(found, rows(task, "reference", **options))


def test_batches_that_are_not_held_pass_by_in_order(always):
    torch.manual_seed(0)
    task = task_of(Small(), torch.randn(1100, 6))
    bench = workbench(task, plan_sweep(task).setting)
    sample = task.validation.inputs[:3]
    weight = bench.model.first.weight.detach()
    variants = [{"first.weight": weight.abs() > size} for size in (0.1, 0.2)]
    rerun = Rerun(bench, fuse(capture(bench.model, sample), sample), 0, cut=True)
    outputs = rerun.outputs("first.weight", variants)
    for place in (1, 0):
        own = rerun.own(variants[place], torch.arange(1100))
        torch.testing.assert_close(torch.cat(outputs(place)), own, rtol=1e-5, atol=1e-5)
    assert always
    assert not rerun.walks


def test_the_bound_is_learnt_from_a_pass_over_all_levels_too(always, monkeypatch):
    torch.manual_seed(0)
    task = task_of(Small(), torch.randn(40, 6))
    options = {"layers": ["first.weight"], "sparsities": [0.1, 0.5]}
    plan = plan_sweep(task, engine="exact", **options)

    def measured():
        ways.cache_clear()
        found = list(plan.run(task, plan.points()))
        return found, ways(workbench(task, plan.setting), "exact", plan.memory).margins

    found, before = measured()
    right = NestedLinear.__call__
    monkeypatch.setattr(NestedLinear, "__call__", lambda this, x: right(this, x) * 1.01)
    off, after = measured()
    assert after.difference > 1e-3 > 10 * before.difference
    assert [row.value for row in off] == [row.value for row in found]


def test_only_a_lone_linear_layer_and_its_weights_go_at_once():
    torch.manual_seed(0)
    shared = nn.Linear(6, 6)
    body = OrderedDict(one=shared, act=nn.ReLU(), two=shared, conv=nn.Unflatten(1, (1, 6)))
    model = nn.Sequential(body | {"c": nn.Conv1d(1, 1, 3), "flat": nn.Flatten()}).eval()
    x = torch.randn(3, 6)
    with torch.no_grad():
        program = fuse(capture(model, x), x)
    kept = torch.ones(6, 6, dtype=torch.bool)
    ask = partial(together, suffix_of(program, ["one.weight"]), "one.weight", axes={})
    assert ask([{"one.weight": kept}] * 2) is None  # used twice
    alone = fuse(capture(nn.Sequential(nn.Linear(6, 6)).eval(), x), x)
    ask = partial(together, suffix_of(alone, ["0.weight"]), "0.weight", axes={})
    assert ask([{"0.weight": kept}] * 2) is not None
    assert ask([{"0.weight": kept, "0.bias": kept[0]}] * 2) is None
    assert ask([{"0.weight": ~kept}, {"0.weight": kept}]) is None


def test_levels_side_by_side_say_what_each_says_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3)).eval()
    x, sizes = torch.randn(5, 6), torch.rand(9, 6)
    levels = [{"0.weight": sizes > least} for least in (0.2, 0.5, 0.9)]
    with torch.no_grad():
        program = fuse(capture(model, x), x)
        suffix = suffix_of(program, ["0.weight"])
        apart = together(suffix, "0.weight", levels, {})
        joined = together(suffix, "0.weight", levels, {apart.own.name: 0})
        assert joined.side_by_side
        assert not apart.side_by_side
        found, dense = joined({"input": x}), model[0].weight.clone()
        for masks, output, other in zip(levels, found, apart({"input": x}), strict=True):
            torch.testing.assert_close(output, other)
            model[0].weight.copy_(dense * masks["0.weight"])
            torch.testing.assert_close(output, model(x))


def test_it_pays_for_many_weights_levels_and_rows():
    assert pays(30_000, 9, 10_000)
    assert not pays(100, 9, 10_000)
    assert not pays(30_000, 1, 10_000)
    assert not pays(3_000_000, 9, 100)
    assert not pays(2**25, 9, 10_000)
