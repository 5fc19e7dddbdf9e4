"""The exact sweep: fused, in pieces, and still the reference's counts."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.sweep.capture import capture
from sparsity_core.sweep.fused import fuse
from sparsity_core.sweep.margin import CLOSE, Margins
from sparsity_core.sweep.onednn import Convolution, Linear
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.rerun import Rerun
from sparsity_core.sweep.verdict import verdict
from sparsity_core.sweep.ways import ways
from sparsity_core.task import Metric, load_task
from sparsity_core.workbench import workbench
from tests.test_fast_sweep import SAMPLES, TROUBLE, plain, rows, task_of, troubled

LOSSES = ("loss", "dense_loss", "loss_rise", "loss_rise_low", "loss_rise_high")


def assert_same_but_rounding(found, expected):
    assert len(found) == len(expected)
    for row, right in zip(found, expected, strict=True):
        assert plain(row, *LOSSES) == plain(right, *LOSSES)
        assert row.dense_loss == right.dense_loss
        if right.loss is not None:
            for part in LOSSES:
                close = pytest.approx(getattr(right, part), rel=1e-6, abs=1e-6)
                assert getattr(row, part) == close


@pytest.mark.parametrize("name", SAMPLES)
def test_exact_rows_are_the_references_on_the_sample_models(name):
    options = {
        "structures": ["unstructured", "out-channel", "in-channel", "2:4"],
        "scorers": ["magnitude", "random"],
        "sparsities": [0.5, 0.9],
        "samples": 60,
        "score_samples": 8,
    }
    task = load_task(name)
    found = rows(task, "exact", **options)
    assert_same_but_rounding(found, rows(task, "reference", **options))
    assert {row.engine for row in found} == {"exact"}


@pytest.mark.parametrize("kind", TROUBLE)
def test_exact_rows_are_the_references_on_nets_made_for_trouble(kind):
    options = {
        "structures": ["unstructured", "out-channel", "in-channel"],
        "sparsities": [0, 0.5, 0.51, 0.9, 1],
    }
    found = rows(troubled(kind), "exact", **options)
    assert_same_but_rounding(found, rows(troubled(kind), "reference", **options))
    assert {row.engine for row in found} == {"exact"}


class Close(nn.Module):
    """Two classes that are nearly always a tie, and a third that never wins."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3, bias=False)
        self.head.weight.data[1] = self.head.weight.data[0]
        self.head.weight.data[2] = 0

    def forward(self, x):
        return self.head(torch.relu(self.body(x))) + torch.tensor([1.0, 1.0, -9.0])


def test_predictions_that_rounding_could_change_are_made_again():
    torch.manual_seed(0)
    task = task_of(Close())
    options = {"layers": ["body"], "sparsities": [0.5, 0.9]}
    found = rows(task, "exact", **options)
    plan = plan_sweep(task, engine="exact", **options)
    margins = ways(workbench(task, plan.setting), "exact", plan.memory).margins
    assert margins.batches == 2  # each level's only batch
    # The outputs are the model's own then, and so are the losses, to the last bit.
    assert [plain(row) for row in found] == [plain(r) for r in rows(task, "reference", **options)]


def test_the_bound_grows_with_the_differences_seen():
    own = torch.tensor([[3.0, 2.0], [2.0, 3.0], [1.0, 1.0 + 5e-5], [7.0, 7.01]])
    rounded = own + torch.tensor([1e-3, 0.0])
    rounded[2] = own[2] - torch.tensor([0.0, 1e-4])  # the other way round

    def model(samples):
        return own[samples]

    margins = Margins(batch=2)
    found, seen = margins.settled(rounded, model)
    # The third alone was close and asked about; it was off by 1e-4 in a point that reaches 7.01.
    # Eight times that makes no other sample close.
    assert margins.difference == pytest.approx(1e-4 / 7.01, rel=1e-2)
    assert margins.bound(7.01) == pytest.approx(8e-4, rel=1e-2)
    assert margins.bound(0.01) == CLOSE
    assert (margins.rerun, margins.batches) == (1, 0)
    assert torch.equal(found[2], own[2])
    assert torch.equal(found[:2], rounded[:2])
    assert seen.predictions.tolist() == [0, 1, 1, 1]
    # Off by 2e-3 in a point that reaches 3: within eight times that, all are.
    margins.learn(own[:1], own[:1] + 2e-3)
    found, _ = margins.settled(rounded, model)
    assert torch.equal(found[2:], own[2:])
    assert torch.equal(found[:2], rounded[:2])
    assert margins.rerun == 3  # the third and the fourth


def test_what_few_samples_cannot_settle_is_made_again_in_whole_batches():
    own = torch.tensor([[3.0, 2.0], [2.0, 3.0], [1.0, 1.0 + 5e-7], [7.0, 1.0], [5.0, 1.0]])
    asked = []

    def model(samples):
        asked.append(samples.tolist())
        return own[samples] + (0 if len(samples) == 2 else 3e-7) * torch.tensor([1.0, -1.0])

    margins = Margins(batch=2)
    found, seen = margins.settled(own.clone(), model)
    assert asked == [[2] * 16, [2, 3]]  # alone, then with its batch
    assert (margins.rerun, margins.batches) == (3, 1)
    assert torch.equal(found, own)
    assert seen.predictions.tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("classes", [2, 10])
def test_verdicts_are_those_of_torch(classes):
    outputs = torch.randn(200, classes, generator=torch.Generator().manual_seed(0))
    outputs[3] = 1.0  # a tie: the first wins
    outputs[5, 1] = 9.0
    seen = verdict(outputs)
    best = outputs.topk(2).values
    assert torch.equal(seen.predictions, outputs.argmax(1))
    assert torch.equal(seen.margins, best[:, 0] - best[:, 1])
    assert (seen.scale, seen.broken) == (9.0, 0)
    outputs[7, 0], outputs[8, 1] = float("nan"), float("-inf")
    assert verdict(outputs).broken == 2
    assert verdict(outputs).margins.isnan().nonzero()[:, 0].tolist() == [7, 8]


def test_another_metric_than_accuracy_is_not_rounded():
    task = troubled("residual")
    confidence = Metric("confidence", lambda x, y: x.softmax(1).gather(1, y[:, None])[:, 0])
    task = replace(task, metric=confidence)
    found = rows(task, "exact", sparsities=[0.5])
    assert [plain(r, "message") for r in found] == [
        plain(r, "message") for r in rows(task, "reference", sparsities=[0.5])
    ]
    for row in found:
        assert row.engine == "exact, unfused"
        assert row.message == "not fused: confidence may change with rounding"


class Batchwise(nn.Module):
    """A norm that looks at the other samples even in eval mode: no piece of a batch will do."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)
        self.b = nn.Linear(6, 3)

    def forward(self, x):
        return self.b(self.norm(self.a(x)))


def test_a_model_whose_samples_depend_on_each_other_goes_in_whole_batches():
    torch.manual_seed(0)
    task = task_of(Batchwise(), torch.randn(600, 6))
    found = rows(task, "exact", layers=["a"], sparsities=[0.5])
    right = rows(task, "reference", layers=["a"], sparsities=[0.5])
    assert_same_but_rounding([replace(r, message="") for r in found], right)
    for row in found:
        assert row.engine == "exact, unfused"
        assert "other outputs" in row.message


class Chains(nn.Module):
    """Everything that is fused, each in more than one way."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1, stride=(2, 1))
        self.norm = nn.BatchNorm2d(8, affine=False)
        self.depth = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.relu6 = nn.ReLU6()
        self.gelu, self.silu = nn.GELU("tanh"), nn.SiLU()
        self.point = nn.Conv2d(8, 8, 1)
        self.point2 = nn.Conv2d(8, 8, 1)
        self.same = nn.Conv2d(8, 8, 3, padding="same", padding_mode="reflect")
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.5)
        self.fc, self.out = nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = self.relu6(self.norm(self.first(x)))  # (N, 8, 5, 9)
        x = self.gelu(x + self.norm2(self.depth(x)))
        x = self.silu(self.point(x)) + self.point2(x)
        x = torch.add(self.same(x), x)
        x = self.drop(self.pool(x))  # (N, 8, 2, 4)
        return self.out(F.gelu(self.fc(x.mean((2, 3)))))


@pytest.mark.parametrize("onednn", [True, False])
def test_fused_programs_do_what_the_model_does(monkeypatch, onednn):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    torch.manual_seed(0)
    model = Chains().eval()
    for norm in (model.norm, model.norm2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    inputs = torch.randn(7, 2, 9, 9)
    with torch.no_grad():
        program = capture(model, inputs[:3])
        fused = fuse(program, inputs[:3])
        assert torch.equal(program(inputs), model(inputs))
        torch.testing.assert_close(fused(inputs), model(inputs), rtol=1e-5, atol=1e-6)
    calls = [type(step.call).__name__ for step in fused.steps]
    assert calls.count("Convolution") == 4
    assert {type(step.call).__module__.endswith("onednn") for step in fused.steps} >= {onednn}
    assert not {"BatchNorm2d", "ReLU6", "SiLU", "Dropout", "MaxPool2d"} & set(calls)
    assert len(fused.steps) < len(program.steps) - 6


def test_a_layer_whose_whole_outputs_go_does_not_run_again(monkeypatch):
    torch.manual_seed(0)
    task = task_of(Chains(), torch.randn(40, 2, 9, 9))
    bench = workbench(task, plan_sweep(task).setting)
    sample = task.validation.inputs[:3]
    fused = Rerun(bench, fuse(capture(bench.model, sample), sample))
    ran = []
    for kind, module in ((Convolution, "conv"), (Linear, "linear")):
        call = kind.__call__

        def counted(this, *x, call=call, module=module):
            ran.append(getattr(this, module))
            return call(this, *x)

        monkeypatch.setattr(kind, "__call__", counted)
    again = {}
    for name, layer in fused.layers.items():
        numbers = torch.arange(layer.shape[0])
        outputs_left = [numbers % k != 0 for k in (2, 3, 4)]
        variants = [
            {name: left.view(-1, *[1] * (len(layer.shape) - 1)).expand(layer.shape)}
            | dict.fromkeys(layer.biases, left)
            for left in outputs_left
        ]
        outputs = fused.outputs(name, variants)
        outputs(0)
        ran.clear()
        for place in (1, 2):
            (found,) = outputs(place)
            own = fused.own(variants[place], torch.arange(40))
            torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-6)
        module = name.removesuffix(".weight")
        again[module] = bench.model.get_submodule(module) in ran
    # What is one step with a sum runs again.
    assert {name for name, ran_again in again.items() if ran_again} == {"depth", "point2"}
