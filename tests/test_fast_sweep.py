"""The fast sweep against the reference: the same rows, from fewer operations."""

import dataclasses
import inspect
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.prune import checked_scores
from sparsity_core.scorers.gradient import Taylor
from sparsity_core.scorers.weight import Magnitude
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.capture import capture
from sparsity_core.sweep.engine import held_bytes
from sparsity_core.sweep.plan import SweepPlan, plan_sweep
from sparsity_core.sweep.program import suffix_of
from sparsity_core.sweep.rerun import BATCH, Rerun
from sparsity_core.task import Task, load_task
from sparsity_core.train import evaluate
from sparsity_core.weights import prunable
from sparsity_core.workbench import workbench

SAMPLES = ("digits-mlp", "digits-lenet", "digits-resnet", "digits-mobilenet", "digits-vit")


def task_of(model, inputs=None, classes=3):
    make = torch.Generator().manual_seed(1)
    if inputs is None:
        inputs = torch.randn(40, 6, generator=make)
    targets = torch.randint(classes, (len(inputs),), generator=make)
    split = Split(inputs, targets)
    return Task("tiny", model.eval(), split, split, split)


def rows(task, engine, **options):
    plan = plan_sweep(task, engine=engine, **options)
    return list(plan.run(task, plan.points()))


def plain(row, *without):
    skipped = {"seconds", "engine", "point_id", *without}
    return {k: v for k, v in dataclasses.asdict(row).items() if k not in skipped}


def assert_same(found, expected, *without):
    assert len(found) == len(expected)
    for row, right in zip(found, expected, strict=True):
        assert plain(row, *without) == plain(right, *without)


@pytest.mark.parametrize("name", SAMPLES)
def test_bitwise_rows_are_the_references_on_the_sample_models(name):
    options = {
        "structures": [
            STRUCTURES.make(kind, **({"n": 2, "m": 4} if "n:m" in kind else {}))
            for kind in STRUCTURES.kinds()
        ],
        "sparsities": [0.5, 0.9],
        "samples": 40,
        "score_samples": 8,
    }
    task = load_task(name)
    found = rows(task, "bitwise", **options)
    assert_same(found, rows(task, "reference", **options))
    assert {row.engine for row in found} == {"bitwise"}
    assert {"ok", "skipped"} <= {row.status for row in found}


class Residual(nn.Module):
    """Branches, an in-place ReLU, a functional one, a sum in place and dropout."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.inplace = nn.ReLU(inplace=True)
        self.left = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.BatchNorm2d(4)
        self.right = nn.Conv2d(4, 4, 1)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.inplace(self.stem(x))
        h = self.norm(self.left(x))
        h += self.right(x)
        x = F.relu(h) + x
        return self.head(self.dropout(x).mean((2, 3)))


class Tied(nn.Module):
    """Two modules with one weight, a weight used by name, and a layer used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.twice = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.first.weight
        self.head = nn.Linear(6, 3)
        self.spare = nn.Linear(6, 6)

    def forward(self, x):
        x = self.twice(torch.tanh(self.first(x)))
        x = torch.tanh(self.tied(torch.tanh(self.twice(x))))
        return self.head(F.linear(x, self.twice.weight.t()))


class Attends(nn.Module):
    """Attention of torch.nn with the batch second, a constant of the forward pass, two outputs."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x, mask=None):
        x = self.embed(x.unflatten(1, (2, 3))) + torch.arange(2.0).view(2, 1)
        x = x.transpose(0, 1)  # (tokens, N, 8)
        mixed, _ = self.attention(x, x, x, attn_mask=mask)
        x = self.norm(x + mixed)
        return self.head(x.mean(0))


class Branches(nn.Module):
    """Asks its data where to go, takes any arguments, answers with a dict."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.b = nn.Linear(6, 6)

    def forward(self, *args):
        x = sum(args)
        chosen = self.a if x.detach().sum() > 1e6 else self.b
        return {"hidden": chosen(x), "input": x}


class Opaque(nn.Module):
    """Contains a module that resists."""

    def __init__(self):
        super().__init__()
        self.before = nn.Linear(6, 6)
        self.branches = Branches()
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = torch.relu(self.before(x))
        return self.head(self.branches(x, x)["hidden"])


IMAGES = torch.randn(40, 2, 5, 5, generator=torch.Generator().manual_seed(2))
TROUBLE = {
    "residual": (Residual, IMAGES),
    "tied": (Tied, None),
    "attention": (Attends, None),
    "opaque": (Opaque, None),
}


def troubled(kind):
    torch.manual_seed(0)
    build, inputs = TROUBLE[kind]
    return task_of(build(), inputs)


@pytest.mark.parametrize("kind", TROUBLE)
def test_bitwise_rows_are_the_references_on_nets_made_for_trouble(kind):
    options = {
        "structures": ["unstructured", "out-channel", "in-channel"],
        "scorers": ["magnitude", "taylor"],
        "sparsities": [0, 0.5, 0.51, 0.9, 1],
    }
    found = rows(troubled(kind), "bitwise", **options)
    assert_same(found, rows(troubled(kind), "reference", **options))
    assert {row.engine for row in found} == {"bitwise"}
    assert "collapsed" in {row.status for row in found}


@pytest.mark.parametrize("kind", TROUBLE)
def test_bitwise_outputs_have_the_bits_of_the_masked_model(kind):
    task = troubled(kind)
    bench = workbench(task, plan_sweep(task).setting)
    rerun = Rerun(bench, capture(bench.model, task.validation.inputs[:3]))
    for name, layer in prunable(bench.model).items():
        if name not in rerun.suffixes:
            assert name == "spare.weight"
            continue
        mask = torch.rand(layer.shape, generator=torch.Generator().manual_seed(3)) > 0.7
        (found,) = rerun.outputs(name, [{name: mask}])(0)
        with bench.masked({name: mask}), torch.no_grad():
            assert torch.equal(found, bench.model(task.validation.inputs))


def test_batches_are_those_of_evaluate():
    assert inspect.signature(evaluate).parameters["batch_size"].default == BATCH


def test_a_module_that_resists_is_one_step_and_the_rest_are_many():
    task = troubled("opaque")
    program = capture(task.model, task.validation.inputs[:3])
    assert list(program.opaque) == ["branches"]
    assert not program.resists
    assert [len(suffix_of(program, [f"{n}.weight"]).steps) for n in ("before", "head")] == [5, 1]


class Whole(Branches):
    def forward(self, x):
        return super().forward(x)["hidden"]


class Overwrites(nn.Module):
    """Reads again what it has overwritten."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.b = nn.Linear(6, 3)

    def forward(self, x):
        x = self.a(x)
        F.relu_(x)
        return self.b(x)


class Hidden(nn.Module):
    """Uses a weight once more, where following its forward pass does not show it."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x):
        return self.a(x) + (2 * self.a._parameters["weight"]).sum(1)


@pytest.mark.parametrize(
    ("build", "why"),
    [(Whole, "TraceError"), (Overwrites, "in place"), (Hidden, "other outputs")],
)
def test_what_resists_is_evaluated_whole_and_says_so(build, why):
    torch.manual_seed(0)
    task = task_of(build())
    options = {"sparsities": [0.5], "structures": ["unstructured"]}
    found, right = rows(task, "bitwise", **options), rows(task, "reference", **options)
    assert_same(found, right, "message")
    measured = [row for row in found if row.status != "skipped"]
    assert measured
    for row in measured:
        assert row.engine == "bitwise, whole model"
        assert row.message.startswith("whole model evaluated: ")
        assert why in row.message


class Counted(nn.Module):
    """Does nothing but count its samples."""

    def __init__(self):
        super().__init__()
        self.samples = 0

    def forward(self, x):
        self.samples += len(x)
        return x


def counted_task(samples=40):
    torch.manual_seed(0)
    model = nn.Sequential()
    for i in range(4):
        model.append(Counted())
        model.append(nn.Linear(6, 6 if i < 3 else 3))
        model.append(nn.ReLU() if i < 3 else nn.Identity())
    make = torch.Generator().manual_seed(1)
    return task_of(model, torch.randn(samples, 6, generator=make))


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


def test_fast_is_exact():
    task = counted_task()
    plan = plan_sweep(task, engine="fast")
    assert plan == plan_sweep(task, engine="exact")
    assert plan.engine == "exact"


@pytest.mark.parametrize("engine", ["bitwise", "exact"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_the_same_rows(engine, value):
    task = counted_task()
    task.model[4].weight.data[0, 0] = value
    found = rows(task, engine, sparsities=[0.5])
    assert_same(found, rows(task, "reference", sparsities=[0.5]))
    assert {row.status for row in found} == {"nan"}


@pytest.mark.parametrize("engine", ["bitwise", "exact"])
def test_labels_out_of_range_are_the_same_rows(engine):
    task = counted_task()
    task.validation.targets[3] = 99
    found = rows(task, engine, sparsities=[0.5])
    assert_same(found, rows(task, "reference", sparsities=[0.5]))
    assert {row.status for row in found} == {"failed"}


@pytest.mark.parametrize("engine", ["bitwise", "exact"])
def test_points_in_any_order(engine):
    task = counted_task()
    plan = plan_sweep(task, engine=engine, scorers=["magnitude", "random"])
    points = plan.points()
    mixed = [points[i] for i in torch.randperm(len(points), generator=torch.Generator())]
    found = {row.point_id: row for row in plan.run(task, mixed)}
    assert_same([found[p.id] for p in points], list(plan.run(task, points)))
