"""Models that nobody here has seen: a sweep works, and what cannot be pruned is listed with why."""

import math
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.cli import main
from sparsity_core.errors import SparsityError
from sparsity_core.executors import WorkerProcesses
from sparsity_core.metrics import METRICS, metric_of
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import Task, load_task, task_of
from sparsity_core.weights import prunable, unprunable

IMAGES = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(11, (40, 6), generator=torch.Generator().manual_seed(1))


class Branches(nn.Module):
    """Two branches of other widths, joined, with a residual around the second."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.mixed = nn.Conv2d(8, 8, 1, groups=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        both = torch.cat([self.left(x), self.right(x)], 1).relu()
        return self.head((both + self.mixed(self.deep(both).relu())).mean((2, 3)))


class Tied(nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = (
            nn.Embedding(11, 8),
            nn.Linear(8, 8),
            nn.Linear(8, 11, bias=False),
        )
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.mix(self.embed(tokens)).tanh())


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.head = (
            nn.Embedding(11, 8),
            nn.LSTM(8, 8, batch_first=True),
            nn.Linear(8, 3),
        )

    def forward(self, tokens):
        outputs, (hidden, _) = self.lstm(self.embed(tokens))
        return self.head(hidden[-1]), outputs


class Attention(nn.Module):
    """Torch's own attention, then one by hand with fused qkv."""

    def __init__(self):
        super().__init__()
        self.num_heads = 2
        self.embed = nn.Embedding(11, 8)
        self.own = nn.MultiheadAttention(8, 2, batch_first=True)
        self.qkv, self.proj, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, tokens):
        x = self.embed(tokens)
        x = x + self.own(x, x, x, need_weights=False)[0]
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        shares = (q @ k.transpose(-1, -2) / 2).softmax(-1)
        x = x + self.proj((shares @ v).transpose(1, 2).reshape(n, t, 8))
        return {"loss": None, "logits": self.head(x.mean(1)), "hidden": x}


class Conv1D(nn.Module):
    """As in GPT-2: a Linear that keeps its weight inputs first."""

    def __init__(self, outputs, inputs):
        super().__init__()
        self.nf = outputs
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / 3)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(
            *x.shape[:-1], self.nf
        )


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.c_fc, self.c_proj = Conv1D(16, 8), Conv1D(8, 16)
        self.head = nn.Linear(8, 11)

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.head(x + self.c_proj(F.gelu(self.c_fc(x))))


class Two(nn.Module):
    """An image and a number of tokens beside it."""

    def __init__(self):
        super().__init__()
        self.conv, self.embed = nn.Conv2d(3, 4, 3), nn.Embedding(11, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, image, tokens):
        return self.head(torch.cat([self.conv(image).mean((2, 3)), self.embed(tokens).mean(1)], 1))


class AnySize(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        if x.shape[-1] > 8:  # a branch on the data's size
            x = F.avg_pool2d(x, 2)
        return self.head(F.adaptive_avg_pool2d(self.conv(x), 1).flatten(1))


class RawMatrix(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(8, 8))
        self.embed, self.head = nn.Embedding(11, 8), nn.Linear(8, 3)

    def forward(self, tokens):
        return self.head(self.embed(tokens).mean(1) @ self.matrix)


def classes(count):
    return torch.arange(40) % count


# model, data, options, layers that are pruned, and a few that are not with the reason
ARCHITECTURES = {
    "branches, residual, depthwise, grouped": (
        Branches, (IMAGES, classes(5)), {},
        "left.weight right.weight deep.weight mixed.weight head.weight", {},
    ),
    "tied": (
        Tied, (TOKENS, TOKENS.roll(-1, 1)), {},
        "embed.weight mix.weight", {},
    ),
    "recurrent, tuple": (
        Recurrent, (TOKENS, classes(3)), {},
        "head.weight",
        {"lstm.weight_ih_l0": "LSTM weights are not pruned: torch runs all steps as one",
         "embed.weight": "looked up and multiplied by nothing"},
    ),
    "attention, dict": (
        Attention, (TOKENS, classes(4)), {},
        "own.in_proj_weight own.out_proj.weight qkv.weight proj.weight head.weight",
        {"own.in_proj_bias": "biases"},
    ),
    "Conv1D": (Gpt, (TOKENS, TOKENS.roll(-1, 1)), {}, "c_fc.weight c_proj.weight head.weight", {}),
    "two inputs by place": (
        Two, ((IMAGES, TOKENS), classes(3)), {}, "conv.weight head.weight", {},
    ),
    "two inputs by name": (
        Two, ({"tokens": TOKENS, "image": IMAGES}, classes(3)), {}, "conv.weight head.weight", {},
    ),
    "small images": (AnySize, (IMAGES, classes(3)), {}, "conv.weight head.weight", {}),
    "large images": (
        AnySize, (IMAGES.repeat(1, 1, 2, 2), classes(3)), {}, "conv.weight head.weight", {},
    ),
    "raw matrix": (
        RawMatrix, (TOKENS, classes(3)), {}, "head.weight",
        {"matrix": "RawMatrix weights are not pruned"},
    ),
    "regression": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), (IMAGES, torch.randn(40)),
        {"metric": "r2"}, "1.weight", {},
    ),
    "no labels": (Branches, IMAGES, {"metric": "kl"}, "left.weight", {}),
    "embeddings": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), IMAGES,
        {"metric": "cosine"}, "1.weight", {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_a_sweep_works_whatever_the_model(case):
    make, data, options, layers, others = ARCHITECTURES[case]
    torch.manual_seed(0)
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    task = task_of(model, data, **options)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert set(layers.split()) <= set(prunable(task.model))
    reasons = unprunable(task.model)
    assert all(reason in reasons[name] for name, reason in others.items())
    rows = {}
    for engine in ("reference", "exact"):
        plan = plan_sweep(
            task, scorers=["magnitude", "wanda"], sparsities=[0, 0.5, 1], engine=engine
        )
        rows[engine] = list(plan.run(task, plan.points()))
        assert {row.status for row in rows[engine]} <= {"ok", "collapsed"}
    for slow, fast in zip(rows["reference"], rows["exact"], strict=True):
        assert fast.value == pytest.approx(slow.value, rel=1e-5, abs=1e-7)
        assert fast.drop == pytest.approx(slow.drop, rel=1e-4, abs=1e-7)
        if slow.sparsity == 0:
            assert slow.value == slow.dense_value
    empty = [row for row in rows["reference"] if row.sparsity == 1]
    assert any(row.loss != row.dense_loss for row in empty)


def test_a_conv1d_does_what_it_did():
    torch.manual_seed(0)
    model = Gpt().eval()
    task = task_of(model, (TOKENS, TOKENS))
    assert task.model.c_fc.weight.shape == (16, 8)
    assert torch.allclose(task.model(TOKENS), model(TOKENS), atol=1e-5)
    assert "2 Conv1D became Linear" in " ".join(task.notes)


def test_an_adapted_model_is_still_its_own_class_with_its_own_names():
    torch.manual_seed(0)
    model = Recurrent()
    task = task_of(model, (TOKENS, classes(3)))
    assert isinstance(task.model, Recurrent)
    assert list(task.model.state_dict()) == list(model.state_dict())
    assert torch.equal(task.model(TOKENS), model.eval()(TOKENS)[0])
    other = task_of(model, TOKENS, output="1", metric="cosine")
    assert other.model(TOKENS).shape == (40, 6, 8)
    assert other.model_digest != task.model_digest


# Metrics, by hand


def value(name, outputs, targets):
    found = metric_of(name, torch.tensor(targets))
    return found.per_sample(torch.tensor(outputs), torch.tensor(targets)).tolist()


LOG2 = math.log(2)


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "expected"),
    [
        ("accuracy", [[1.0, 2.0], [2.0, 1.0]], [1, 1], [1, 0]),
        ("top-1", [[1.0, 2.0]], [0], [0]),
        ("top-5", [[6.0, 5, 4, 3, 2, 1], [6.0, 5, 4, 3, 2, 1]], [4, 5], [1, 0]),
        ("loss", [[0.0, 0.0]], [1], [LOG2]),
        ("mse", [[1.0], [5.0]], [1.0, 2.0], [0, 9]),
        ("mae", [[1.0, 0.0]], [[1.0, 3.0]], [1.5]),
        ("r2", [[1.0], [5.0]], [1.0, 3.0], [1, -3]),  # 1 - 0/1 and 1 - 4/1
        ("perplexity", [[[0.0, 0.0], [0.0, 0.0]]], [[1, -100]], [LOG2]),
        ("agreement", [[1.0, 2.0], [2.0, 1.0]], [[3.0, 4.0], [3.0, 4.0]], [1, 0]),
        ("kl", [[0.0, 0.0]], [[0.0, 0.0]], [0]),
        ("kl", [[0.0, 0.0]], [[0.0, -40.0]], [LOG2]),
        ("cosine", [[1.0, 0.0], [1.0, 1.0]], [[0.0, 2.0], [3.0, 3.0]], [0, 1]),
        ("label-accuracy", [[1.0, -1.0], [2.0, 3.0]], [[1.0, 0.0], [0.0, 1.0]], [1, 0.5]),
        # Two classes, three pixels and one without a class; the third is taken for a 1.
        ("pixel-accuracy", [[[1.0, 0, 0, 0], [0, 1.0, 1.0, 1.0]]], [[0, 1, 0, -100]], [2 / 3]),
        ("iou", [[[1.0, 0, 0, 0], [0, 1.0, 1.0, 1.0]]], [[0, 1, 0, -100]], [1 / 2]),
    ],
)
def test_metrics_are_what_they_are_called(name, outputs, targets, expected):
    assert value(name, outputs, targets) == pytest.approx(expected, abs=1e-6)


def test_a_detector_is_told_to_return_one_tensor():
    class Detector(nn.Module):
        def forward(self, x):
            return [{"boxes": image.mean((1, 2))} for image in x]

    with pytest.raises(SparsityError, match="returns a list of dict and no tensor"):
        task_of(Detector(), torch.zeros(4, 1, 2, 2))


def test_every_metric_has_a_case():
    cases = test_metrics_are_what_they_are_called.pytestmark[0].args[1]
    assert set(METRICS) <= {name for name, *_ in cases}


class Constant(nn.Module):
    """Says `a` for every sample; emptied, it says nothing."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 1, bias=False)
        nn.init.constant_(self.fc.weight, 0.5)

    def forward(self, x):
        return self.fc(x)


def test_a_drop_is_positive_when_it_hurts_also_where_lower_is_better():
    task = task_of(Constant(), (torch.ones(30, 2), torch.ones(30)), metric="mse")
    plan = plan_sweep(task, sparsities=[1])
    (row,) = plan.run(task, plan.points())
    assert (row.dense_value, row.value, row.drop) == (0, 1, 1)


def test_perplexity_is_the_exponential_of_the_mean_and_so_are_its_limits():
    torch.manual_seed(0)
    task = task_of(Tied(), (TOKENS, TOKENS.roll(-1, 1)))
    plan = plan_sweep(task, sparsities=[0.9], layers=["mix"])
    (row,) = plan.run(task, plan.points())
    assert row.metric == "perplexity"
    assert row.value == pytest.approx(math.exp(row.loss), rel=1e-5)
    assert row.drop == pytest.approx(row.value - row.dense_value)
    assert row.drop_low < row.drop < row.drop_high


def test_a_metric_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_metric.py").write_text(
        "def error(outputs, targets):\n    return (outputs.argmax(1) != targets).float()\n"
        "error.higher_is_better = False\n"
        "def wrong(outputs, targets):\n    return outputs.mean()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(0)
    task = task_of(Branches(), (IMAGES, classes(5)), metric="my_metric:error")
    plan = plan_sweep(task, sparsities=[0.9])
    assert {row.status for row in plan.run(task, plan.points())} == {"ok"}
    with pytest.raises(SparsityError, match=r"gave \(\) for .* one number a sample"):
        task_of(Branches(), (IMAGES, classes(5)), metric="my_metric:wrong")
    with pytest.raises(SparsityError, match="could not be imported"):
        task_of(Branches(), (IMAGES, classes(5)), metric="my_metric:absent")


def test_a_flat_loss_is_said_and_not_scored_by():
    task = task_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), IMAGES, metric="cosine")
    plan = plan_sweep(task, scorers=["taylor"], sparsities=[0.5])
    (row,) = plan.run(task, plan.points())
    assert row.status == "failed"
    assert "no gradient to score by; choose a scorer without one" in row.message


def test_without_labels_gradients_come_from_the_dense_answers():
    torch.manual_seed(0)
    task = task_of(Branches(), IMAGES)
    assert task.metric.name == "agreement"
    plan = plan_sweep(task, scorers=["taylor"], sparsities=[0.5])
    rows = list(plan.run(task, plan.points()))
    assert {row.status for row in rows} == {"ok"}
    assert {row.dense_value for row in rows} == {1}


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


# References


def test_one_line_opens_the_same_model_again(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(3)
    trained = nn.Sequential(OrderedDict({"0": nn.Flatten(), "1": nn.Linear(12, 3)}))
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "best.pt")
    import numpy as np

    np.savez(tmp_path / "val.npz", x=np.random.rand(30, 3, 2, 2), y=np.arange(30) % 3)
    reference = f"my_models:make?weights={tmp_path}/best.pt&data={tmp_path}/val.npz&metric=loss"
    task, again = load_task(reference), load_task(reference)
    assert isinstance(task, Task)
    assert task.name == reference
    assert torch.equal(task.model[1].weight, trained[1].weight)
    assert task.metric.name == "loss"
    assert (task.model_digest, task.validation.digest) == (
        again.model_digest,
        again.validation.digest,
    )
    with pytest.raises(SparsityError, match="unknown option of a model 'wieghts'.*'weights'"):
        load_task("my_models:make?wieghts=best.pt")
    with pytest.raises(SparsityError, match="say which with --data"):
        load_task("my_models:make")


def test_weights_far_below_the_card_of_their_model_are_called_out(tmp_path):
    task = load_task("digits-mlp")
    weak = {name: torch.zeros_like(tensor) for name, tensor in task.model.state_dict().items()}
    torch.save(weak, tmp_path / "weak.pt")
    said = " ".join(load_task(f"digits-mlp?weights={tmp_path}/weak.pt").notes)
    assert "is on the model's card: is the preprocessing right?" in said
    torch.save(task.model.state_dict(), tmp_path / "same.pt")
    assert "card" not in " ".join(load_task(f"digits-mlp?weights={tmp_path}/same.pt").notes)


def test_a_catalog_model_takes_other_weights(tmp_path):
    task = load_task("digits-mlp")
    other = {name: tensor * 0.5 for name, tensor in task.model.state_dict().items()}
    torch.save(other, tmp_path / "half.pt")
    half = load_task(f"digits-mlp?weights={tmp_path}/half.pt")
    assert half.model_digest != task.model_digest
    assert half.card is None
    with pytest.raises(SparsityError, match="brings its own data; input-size cannot be said"):
        load_task("digits-mlp?input-size=3x2x2")


@pytest.mark.parametrize(("reference", "message"), [
    ("timm:resnet18?data=val", "pip install 'sparsity-explorer.timm.'"),
    ("hf:/nowhere?data=val", "pip install 'sparsity-explorer.hf.'"),
])  # fmt: skip
def test_extras_that_are_absent_say_how_to_get_them(reference, message, monkeypatch):
    for package in ("timm", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(SparsityError, match=message):
        load_task(reference)


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


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "tiny_make:make", "--rules", "set", "--steps", "2", "--interval", "1"),
        ("tickets", "tiny_make:make", "--rounds", "1", "--steps", "2"),
        ("kernels", "--model", "tiny_make:make", "--layer", "last", "--sparsities", ".5",
         "--batches", "1", "--formats", "csr", "--repeats", "2"),
    ],
)  # fmt: skip
def test_every_command_takes_a_model_of_ones_own(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path))
    (tmp_path / "tiny_make.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    np.savez(tmp_path / "own.npz", x=np.ones((60, 4), np.float32), y=np.arange(60) % 3)
    out = tmp_path / "rows.csv"
    assert main([*arguments, "--data", str(tmp_path / "own.npz"), "--out", str(out)]) == 0
    assert "note: the data came undivided" in capsys.readouterr().err
    assert out.read_text().count("\n") > 1
