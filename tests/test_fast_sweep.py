"""The fast sweep against the reference: the same rows, from fewer operations."""

import dataclasses
import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.data import Split
from sparsity_core.structures import STRUCTURES
from sparsity_core.sweep.capture import capture
from sparsity_core.sweep.plan import plan_sweep
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
