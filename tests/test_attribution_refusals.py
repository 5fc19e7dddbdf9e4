"""What attribution does not suit is refused with a reason: models, layers, operations, numbers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS, DeepLift, IntegratedGradients
from sparsity_core.structures import STRUCTURES
from tests.test_attribution_scorers import KINDS, Net, data, probe_of

OUT_CHANNEL = STRUCTURES.make("out-channel")


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (lambda m, y: m.pool(F.relu(y)), "relu is not linear and has no rule here"),
        (lambda m, y: m.pool(m.gelu(y)), "gelu is not linear"),
        (lambda m, y: m.pool(m.softmax(y)), "softmax is not linear"),
        (lambda m, y: m.pool(m.norm(y)), "nativegroupnorm is not linear"),
        (lambda m, y: m.pool(y * y), "mul is not linear"),
        (lambda m, y: m.pool(y / y.abs().sum()), "div is not linear"),
        (lambda m, y: m.pool(m.act(m.act(y) - 1)), r"act \(ReLU\) is called 2 times"),
        (lambda m, y: m.overlap(y)[..., ::2, ::2], r"overlap \(MaxPool2d\) pools overlapping"),
        (lambda m, y: m.pool(torch.maximum(y, -y)), "maximum is not linear"),
    ],
)
def test_deeplift_refuses_a_model_with_an_operation_without_a_rule(then, reason):
    model = Net(then, gelu=nn.GELU(), softmax=nn.Softmax(1), norm=nn.GroupNorm(2, 4),
                overlap=nn.MaxPool2d(3, 1, 1))  # fmt: skip
    probe = probe_of(model)
    with pytest.raises(SparsityError, match=f"does not suit: {reason}.*choose integrated-gradient"):
        prune(probe, Recipe(0.5, scorer=DeepLift(), structure=OUT_CHANNEL))
    assert not any(score.any() for score in DeepLift().score(probe).values())
    assert prune(probe, Recipe(0.5, scorer=IntegratedGradients(), structure=OUT_CHANNEL)).masks


def test_deeplift_that_does_not_add_up_is_named_by_its_number(monkeypatch):
    from sparsity_core.scorers import attribution

    monkeypatch.setattr(attribution, "why_no_rule", lambda *_: None)
    model = Net(lambda m, y: m.pool(F.relu(y)))
    with pytest.raises(SparsityError, match=r"miss the change of the outputs by 0\.\d+ of \d"):
        DeepLift().score(probe_of(model))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(72, 72), nn.Linear(72, 72), nn.Linear(72, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.fc(self.b(self.a(x.flatten(1))))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = x.flatten(1, 2)
        return self.fc(self.attention(x, x, x)[0].mean(1))


class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.row, self.fc = nn.Linear(6, 6), nn.Linear(72, 3)

    def forward(self, x):
        return self.fc(self.row(x.reshape(-1, 6)).reshape(-1, 72))


@pytest.mark.parametrize(
    ("model", "layer", "reason"),
    [
        (Net(lambda m, y: m.pool(m.conv(y[:, :2]))), "conv.weight", "is used 2 times"),
        (Net(lambda m, y: m.pool(F.conv2d(y, m.two.weight)), two=nn.Conv2d(4, 4, 1)),
         "two.weight", "0 of them by a call of its module"),
        (Net(lambda m, y: m.pool(y + F.conv2d(y[:, :2], m.conv.weight, padding=1))),
         "conv.weight", "is used 2 times in a forward pass, 1 of them by a call"),
        (Net(lambda m, y: m.pool(F.relu_(y))), "conv.weight", "changes in place"),
        (Tied(), "a.weight", "shared with b.weight"),
        (Attention(), "attention.in_proj_weight", "inside nn.MultiheadAttention"),
        (Attention(), "attention.out_proj.weight", "0 of them by a call"),
        (Rows(), "row.weight", "gives (24, 6), where"),
    ],
)  # fmt: skip
def test_layers_without_an_output_of_their_own_are_refused(model, layer, reason):
    probe = probe_of(model)
    pruning = prune(probe, Recipe(0.5, scorer=IntegratedGradients(2), structure=OUT_CHANNEL))
    assert list(pruning.skipped) == [name for name in probe.layers if name != "fc.weight"] or (
        list(pruning.skipped) == [layer]
    )
    assert reason in pruning.skipped[layer]
    assert pruning.skipped[layer].endswith("; skip this layer or choose another scorer")
    assert not IntegratedGradients(2).score(probe)[layer].any()


@pytest.mark.parametrize(
    ("model", "batch", "reason"),
    [
        (nn.Conv2d(2, 4, 3), data(), r"this model gives \(2, 4, 4, 4\)"),
        (Net(lambda m, y: m.pool(y)), (data()[0], torch.zeros(7)), "these are torch.float32"),
        (Net(lambda m, y: m.pool(y)), (data()[0], torch.arange(7)), "targets go from 0 to 6"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_tells_no_classes_is_refused(kind, model, batch, reason):
    with pytest.raises(SparsityError, match=f"cannot be attributed to: .*{reason}"):
        prune(probe_of(model, batch), Recipe(0.5, scorer=SCORERS.make(kind), structure=OUT_CHANNEL))


def test_steps_must_be_a_number_from_one():
    with pytest.raises(SparsityError, match="conductance: steps must be 1 or more, got 0"):
        SCORERS.make("conductance", steps=0)
