"""Models and data of one's own that do not do: refused in one line, doubted, or a failed row."""

import math

import pytest
import torch
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.executors import WorkerProcesses
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task, task_of
from tests.own_layers import IMAGES, TOKENS, Branches, classes

# Models that misbehave


class Raises(Branches):
    def forward(self, _):
        raise KeyError("no such thing")


class WantsGpu(Branches):
    def forward(self, x):
        return super().forward(x.to("cuda"))


class Nan(Branches):
    def forward(self, x):
        return super().forward(x) * float("nan")


class Draws(Branches):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x))


class Remembers(Branches):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


class Pooled(Branches):
    def forward(self, x):
        return super().forward(x).mean(0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Raises, "could not be run on inputs .*KeyError: 'no such thing'"),
        (WantsGpu, "could not be run|asks for a GPU by itself"),
        (Nan, "20 of the dense model's 20 outputs are NaN"),
        (Draws, "differently the second time: it draws random numbers"),
        (Remembers, "differently the second time"),
        (Pooled, "one row of numbers a sample"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(191, 2)), "check --input-size"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="one case wants a machine without a GPU")
def test_models_that_misbehave_are_refused_in_one_line(model, message):
    with pytest.raises(SparsityError, match=message) as caught:
        task_of(model(), (IMAGES, classes(5)))
    assert "\n" not in str(caught.value)


def test_a_layer_that_becomes_nan_when_pruned_is_a_row():
    class Divides(Branches):
        def forward(self, x):
            return super().forward(x) / self.head.weight.abs().sum().gt(0)

    torch.manual_seed(0)
    task = task_of(Divides(), (IMAGES, classes(5)))
    plan = plan_sweep(task, layers=["head"], sparsities=[0.5, 1])
    statuses = [row.status for row in plan.run(task, plan.points())]
    assert statuses == ["ok", "nan"]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((IMAGES, classes(6)), {}, "label 5 is out of range for a model with 5 outputs"),
        ((IMAGES, classes(5) - 1), {}, "label -1 is out of range"),
        ((IMAGES, classes(5)), {"classes": tuple("abcdefg")}, "7 classes and the model 5 outputs"),
        ((IMAGES, TOKENS), {}, r"classes need \(C,\) and one number"),
        ((IMAGES, classes(5)[:30]), {}, "30 and 40 samples"),
        ((IMAGES * float("nan"), classes(5)), {}, "holds NaN"),
        ((IMAGES, classes(5)), {"metric": "mse"}, "does not go with classification; choose acc"),
        ((IMAGES, classes(5)), {"metric": "acuracy"}, "did you mean 'accuracy'"),
        ((IMAGES, classes(5)), {"metric": "top-5"}, "top-5 of 5 classes is always right"),
        ((IMAGES[:2], classes(5)[:2]), {}, "2 samples cannot be divided"),
        ("nowhere.npz", {}, "no data at"),
        ("nowhere:make", {}, "data nowhere:make: failed .ModuleNotFoundError"),
        ((IMAGES, classes(5)), {"output": "logits"}, "one tensor, so there is no output 'logits'"),
    ],
)
def test_data_that_does_not_go_with_the_model(data, options, message):
    with pytest.raises(SparsityError, match=message):
        task_of(Branches(), data, **options)


def test_many_classes_and_one():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(192, 10_000))
    task = task_of(wide, (IMAGES, torch.arange(40) * 250))
    plan = plan_sweep(task, sparsities=[0.5])
    assert next(iter(plan.run(task, plan.points()))).status == "ok"
    single = task_of(Branches(), (IMAGES, torch.full((40,), 3)))
    assert any("all samples looked at are of class 3" in note for note in single.notes)


def test_splits_share_no_sample():
    inputs = torch.arange(100.0).reshape(100, 1)
    task = task_of(nn.Linear(1, 2), (inputs, torch.arange(100) % 2))
    parts = [task.train.inputs, task.validation.inputs, task.test.inputs]
    assert [len(part) for part in parts] == [20, 40, 40]
    assert torch.equal(torch.cat(parts).flatten().sort().values, inputs.flatten())
    two = task_of(
        nn.Linear(1, 2), {"train": (inputs[:50], classes(2).repeat(2)[:50]),
                          "val": (inputs[50:], classes(2).repeat(2)[:50])},
    )  # fmt: skip
    assert [len(s) for s in (two.train, two.validation, two.test)] == [50, 25, 25]
    assert not set(two.validation.inputs.flatten().tolist()) & set(
        two.test.inputs.flatten().tolist()
    )


# Is the preprocessing right?


class Knows(nn.Module):
    """Right for inputs in 0..1 (the class is where the one is), lost for others."""

    def __init__(self, count=4, order=None):
        super().__init__()
        self.fc = nn.Linear(count, count)
        with torch.no_grad():
            self.fc.weight.copy_(torch.eye(count)[list(order or range(count))])
            self.fc.bias.zero_()

    def forward(self, x):
        return self.fc(x)


LABELS = torch.arange(200) % 4
ONES = torch.eye(4)[LABELS]


def notes(model, inputs, **options):
    return " | ".join(task_of(model, (inputs, LABELS), **options).notes)


def test_a_sound_baseline_raises_no_doubt():
    found = notes(Knows(), ONES, expect=0.99)
    assert "dense accuracy: 100.0%" in found
    assert "right?" not in found
    assert "another order" not in found


def test_a_baseline_far_below_the_card_is_called_out():
    half = torch.where(torch.arange(200)[:, None] % 8 < 4, ONES, torch.ones(4) - ONES)
    assert "but 99.0% is on the model's card: is the preprocessing right?" in notes(
        Knows(), half, expect=0.99
    )


def test_a_baseline_at_chance_is_called_out():
    assert "is the preprocessing right, and are these the trained weights?" in notes(
        Knows(), torch.ones(200, 4)
    )


def test_classes_in_another_order_are_recognised():
    found = notes(Knows(order=[2, 0, 3, 1]), ONES)
    assert "would be 100.0% if the classes stood in another order" in found


# Models that hang

HANGING = """
import time
import torch
from torch import nn
from sparsity_core.task import task_of

class Hangs(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        while not self.fc.weight.any():
            time.sleep(0.1)
        return self.fc(x)

def make():
    torch.manual_seed(0)
    return task_of(Hangs(), (torch.ones(20, 4), torch.arange(20) % 3))
"""


def test_a_point_that_hangs_is_a_failed_row(tmp_path, monkeypatch):
    (tmp_path / "hanging_model.py").write_text(HANGING)
    monkeypatch.syspath_prepend(tmp_path)
    plan = plan_sweep(load_task("hanging_model:make"), sparsities=[1], engine="reference")
    # It hangs for ever, so any patience will do.
    workers = WorkerProcesses(1, patience=lambda asked: 0.2 if asked is plan else math.inf)
    (row,) = workers.run(plan, plan.groups(plan.points()), lambda: False)
    workers.close()
    assert row.status == "failed"
    assert "took longer than the time limit of 0.2 s" in row.message
    with pytest.raises(SparsityError, match="more than 0 s"):
        WorkerProcesses(1, patience=0)
