"""Where the outputs of a layer go: to which norm and activation, and where that ends."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core import follow
from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.scorers import MeanActivation
from sparsity_core.weights import prunable
from tests.test_output_scorers import Net, images


def paths(model, inputs):
    return follow.paths(model, inputs, prunable(model))


def steps(model, inputs=None):
    """The operations behind each layer."""
    found = paths(model.eval(), images() if inputs is None else inputs)
    return {path.name: [step.operation.lstrip("_") for step in path.steps] for path in found}


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (lambda m, y: F.relu(m.bn(y)), ["native_batch_norm", "relu"]),
        (lambda m, y: F.relu_(m.bn(y)).add_(1), ["native_batch_norm", "relu"]),
        (lambda m, y: m.act(y), ["gelu"]),
        (lambda _, y: F.relu6(y), ["hardtanh"]),
        (lambda _, y: y.clamp(min=0), ["clamp"]),
        (lambda _, y: F.relu(y.flatten(2)), ["relu"]),
        (lambda _, y: F.relu(y.permute(0, 2, 3, 1)), []),
        (lambda m, y: m.bn(F.relu(y)), ["relu"]),
        (lambda _, y: F.relu(F.max_pool2d(y, 2)), []),
        (lambda _, y: F.relu(y + 1), []),
        (lambda _, y: F.relu(torch.sigmoid(y)), ["sigmoid"]),
        (lambda m, y: F.relu(F.instance_norm(y, weight=m.bn.weight)), []),
        (lambda _, y: F.relu(F.group_norm(y, 2)), []),
    ],
)
def test_outputs_are_followed_to_norm_and_activation(then, expected):
    model = Net(then, act=nn.GELU())
    assert steps(model)["conv.weight"] == expected
    # Of a single sample an instance norm looks just like a batch norm.
    assert steps(model, images(1))["conv.weight"] == expected


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (lambda _, y: y * torch.sigmoid(y), []),
        (lambda m, y: F.relu(m.bn(y)) + y, []),
        (lambda m, y: m.bn(y) + F.relu(m.bn2(y)), []),
        (lambda m, y: (b := m.bn(y)) + F.relu(b), ["native_batch_norm"]),
        # Both read what the relu made of it: there is nothing else left of the output.
        (lambda _, y: F.relu(y) + F.max_pool2d(F.relu(y), 1), []),
        (lambda m, y: (b := F.relu(m.bn(y))) + b.mean(), ["native_batch_norm", "relu"]),
    ],
)
def test_a_path_ends_where_two_operations_read(then, expected):
    model = Net(then, bn2=nn.BatchNorm2d(4))
    (path,) = paths(model.eval(), images())
    assert [step.operation for step in path.steps] == expected
    assert path.forked == (len(expected) < 2)


def test_linear_layers_are_followed_through_their_bias_and_views():
    class Linears(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Linear(6, 4)
            self.columns = nn.Linear(3, 4)
            self.fc = nn.Linear(4, 4, bias=False)
            self.bn = nn.BatchNorm1d(4)

        def forward(self, x):  # (N, 3, 6)
            a = F.relu(self.tokens(x)).mean(1)
            b = torch.tanh(self.columns(x.transpose(1, 2))).mean(1)  # the bias is added apart
            return self.bn(self.fc(a + b))

    x = torch.randn(5, 3, 6)
    model = Linears()
    assert steps(model, x) == {
        "tokens.weight": ["relu"],
        "columns.weight": ["tanh"],
        "fc.weight": ["native_batch_norm"],
    }
    seen = {}
    follow.measure(
        model, x, paths(model, x[:1]), lambda path, values: seen.update({path.name: values})
    )
    expected = torch.tanh(model.columns(x.transpose(1, 2))).detach().reshape(-1, 4).T
    assert torch.allclose(seen["columns.weight"], expected, atol=1e-6)


def test_a_norm_over_tokens_is_not_one_over_outputs():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 4)
            self.bn = nn.BatchNorm1d(4)

        def forward(self, x):  # (N, 4, 6): as many tokens as outputs
            return self.bn(self.fc(x))

    assert steps(Tokens(), torch.randn(2, 4, 6)) == {"fc.weight": []}


def test_attention_is_followed_no_further_than_its_projections():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    assert steps(model, torch.randn(3, 5, 8)) == {
        "self_attn.in_proj_weight": [],
        "self_attn.out_proj.weight": [],
        "linear1.weight": ["relu"],
        "linear2.weight": [],
    }


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (lambda m, y: F.relu_(m.bn(y)).add_(1), lambda m, y: F.relu(m.bn(y))),
        (lambda m, y: F.relu(m.bn(y)).view(-1).mul_(0), lambda m, y: F.relu(m.bn(y))),
        # Read again by mul_, so the path ends at the convolution itself.
        (lambda m, y: m.bn(y) + y.mul_(0), lambda _, y: y),
    ],
)
def test_values_are_measured_before_anything_changes_them(then, expected):
    model = Net(lambda m, y: then(m, y).reshape(len(y), -1)).eval()
    x, seen = images(), []
    follow.measure(model, x, paths(model, x[:1]), lambda _, values: seen.append(values.clone()))
    values = expected(model, model.conv(x)).transpose(0, 1).flatten(1)
    assert torch.allclose(seen[0], values, atol=1e-6)


def test_a_model_that_runs_other_layers_for_other_samples_is_named():
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.a(x) if x.sum() > 0 else self.b(x)

    batches = [(torch.ones(2, 2), torch.zeros(2)), (-torch.ones(2, 2), torch.zeros(2))]
    with pytest.raises(SparsityError, match=r"a\.weight: the model runs other operations"):
        MeanActivation().score(Probe(Moody(), batches))
