"""Models of one's own: whatever their layers, a sweep works, and they stay what they were."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import task_of
from sparsity_core.weights import prunable, unprunable
from tests.own_layers import IMAGES, TOKENS, Branches, Tied, classes


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
