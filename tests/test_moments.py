"""What enters a layer: patches against torch's own unfold and convolutions, moments by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.moments import (
    input_means,
    input_moments,
    inverse_root,
    layer_inputs,
    paired_moments,
)
from sparsity_core.probe import Probe


def batch(*shape, seed=0, dtype=torch.float64):
    make = torch.Generator().manual_seed(seed)
    return [(torch.randn(*shape, generator=make, dtype=dtype), torch.zeros(shape[0]))]


def test_moments_by_eye():
    inputs = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    (part,) = input_moments(nn.Linear(2, 3), "weight", [(inputs, torch.zeros(2))])
    assert (part.rows, part.count) == (slice(0, 3), 2)
    assert part.mean.tolist() == [2, 1]
    assert part.second.tolist() == [[5, 1], [1, 2]]
    assert part.second.dtype == torch.float64


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
        {"padding": "same", "dilation": 2},
        {"padding": 1, "groups": 2},
        {"stride": 2, "padding": 1, "groups": 4},
    ],
)
def test_patches_against_unfold(options):
    conv = nn.Conv2d(4, 8, 3, **options).double()
    data = batch(3, 4, 9, 8)
    found = list(layer_inputs(conv, "weight", data))
    groups = conv.groups
    padding = {"same": 2}.get(conv.padding, conv.padding)
    for group, (rows, x) in enumerate(found):
        inputs = data[0][0].unflatten(1, (groups, -1))[:, group]
        columns = F.unfold(inputs, 3, conv.dilation, padding, conv.stride)
        assert torch.equal(x, columns.transpose(1, 2).flatten(0, 1))
        assert rows == slice(group * 8 // groups, (group + 1) * 8 // groups)
    assert len(found) == groups


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Conv1d(4, 6, 5, stride=2, padding=3, dilation=2, groups=2), (3, 4, 15)),
        (lambda: nn.Conv2d(4, 6, (1, 3), padding=1, padding_mode="circular"), (3, 4, 5, 6)),
        (lambda: nn.Conv3d(2, 4, (2, 1, 3), stride=(1, 2, 1), padding=1), (2, 2, 4, 5, 6)),
        (lambda: nn.Linear(5, 7), (3, 5)),
        (lambda: nn.Linear(5, 7, bias=False), (3, 2, 5)),
    ],
)
def test_patches_times_weight_are_the_outputs(make, shape):
    layer = make().double()
    data = batch(*shape)
    expected = layer(data[0][0])
    if len(shape) > 3 or isinstance(layer, nn.Conv1d):
        expected = expected.movedim(1, -1)
    expected = expected.reshape(-1, len(layer.weight))
    for rows, x in layer_inputs(layer, "weight", data):
        found = x @ layer.weight[rows].flatten(1).T
        bias = 0 if layer.bias is None else layer.bias[rows]
        assert torch.allclose(found + bias, expected[:, rows], atol=1e-12)


def test_moments_are_those_of_all_samples_however_they_are_batched(small_conv):
    (inputs, targets), model = batch(70, 3, 6, 6, dtype=torch.float32)[0], small_conv
    whole = input_moments(model, "conv2.weight", [(inputs, targets)])
    parts = list(zip(inputs.split(9), targets.split(9), strict=True))
    for one, other in zip(whole, input_moments(model, "conv2.weight", parts), strict=True):
        assert (one.rows, one.count) == (other.rows, other.count)
        assert torch.allclose(one.mean, other.mean, atol=1e-7)
        assert torch.allclose(one.second, other.second, atol=1e-6)
    means = input_means(model, "conv2.weight", parts)
    assert [rows for rows, _ in means] == [slice(0, 4), slice(4, 8)]
    assert torch.allclose(means[1][1], whole[1].mean, atol=1e-7)


def test_pairs_against_the_matrices(small_conv, batches):
    other = copy.deepcopy(small_conv)
    other.conv1.weight.data[::2] = 0
    pairs = paired_moments(small_conv, other, "conv2.weight", batches)
    before = list(layer_inputs(small_conv, "conv2.weight", batches))
    after = list(layer_inputs(other, "conv2.weight", batches))
    for group, pair in enumerate(pairs):
        x = torch.cat([x for _, x in before[group::2]]).double()
        d = torch.cat([d for _, d in after[group::2]]).double()
        assert pair.count == len(x) == len(d)
        assert torch.allclose(pair.cross, x.T @ d / len(x), atol=1e-6)
        assert torch.allclose(pair.second, x.T @ x / len(x), atol=1e-6)
        assert torch.allclose(pair.mean, x.mean(0), atol=1e-6)
        assert torch.allclose(pair.other_mean, d.mean(0), atol=1e-6)


class Cross(nn.Module):
    """Attention of x to half as many places, whose queries and keys use parts of one weight."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        half = x[:, ::2]
        return self.attention(x, half, half)[0]


def test_parts_of_a_fused_weight_have_their_own_inputs():
    torch.manual_seed(0)
    data = batch(2, 6, 4, dtype=torch.float32)
    queries, rest = input_moments(Cross(), "attention.in_proj_weight", data)
    assert (queries.rows, rest.rows) == (slice(0, 4), slice(4, 12))
    assert (queries.count, rest.count) == (12, 6)
    x = data[0][0][:, ::2].reshape(-1, 4).double()
    assert torch.allclose(rest.second, x.T @ x / 6, atol=1e-6)


class Overlapping(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight[:2]).sum() + F.linear(x, self.weight[1:]).sum()


def test_overlapping_parts_are_refused():
    with pytest.raises(SparsityError, match=r"rows 0 to 2 and rows 1 to 3 .* skip this layer"):
        input_moments(Overlapping(4, 3), "weight", batch(5, 4, dtype=torch.float32))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3, bias=False)
        self.drop = nn.Dropout(0.9)

    def forward(self, x):
        return self.fc(self.drop(torch.relu(self.fc(x))))


def test_a_weight_used_twice_has_the_inputs_of_both_uses_and_dropout_is_off():
    model = Twice().double().train()
    data = batch(5, 3)
    (part,) = input_moments(model, "fc.weight", data)
    x = torch.cat([data[0][0], torch.relu(model.fc(data[0][0]))])
    assert torch.allclose(part.second, x.T @ x / 10)
    assert model.training
    assert model.drop.training


def test_a_weight_that_is_never_used_has_no_moments(small_conv, batches):
    small_conv.spare = nn.Linear(2, 2)
    assert input_moments(small_conv, "spare.weight", batches) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types(dtype):
    layer = nn.Conv2d(2, 4, 3).to(dtype)
    data = batch(3, 2, 5, 5, dtype=dtype)
    (part,) = input_moments(layer, "weight", data)
    x = F.unfold(data[0][0].double(), 3).transpose(1, 2).flatten(0, 1)
    atol = 1e-12 if dtype == torch.float64 else 1e-5
    assert torch.allclose(part.second, x.T @ x / 27, atol=atol)


def test_a_probe_needs_samples_for_moments(small_conv):
    with pytest.raises(SparsityError, match="has no batches"):
        Probe(small_conv).input_moments("fc.weight")


def test_inputs_that_are_not_finite_are_named():
    data = batch(5, 4, dtype=torch.float32)
    data[0][0][2, 1] = torch.nan
    with pytest.raises(NonFiniteError, match="weight: 1 of 4 moments of inputs"):
        input_moments(nn.Linear(4, 3), "weight", data)


def test_the_root_is_that_of_the_damped_inverse():
    x = batch(30, 6)[0][0]
    second = x.T @ x / 30
    root = inverse_root("fc.weight", second, damping=0.1)
    damped = second + 0.1 * second.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    assert torch.allclose(root.T @ root, torch.linalg.inv(damped))
    assert torch.equal(root, root.triu())
    assert (root.diagonal() > 0).all()


def test_inputs_that_are_always_zero_stand_alone():
    x = batch(30, 4)[0][0]
    x[:, 2] = 0
    root = inverse_root("fc.weight", x.T @ x / 30, damping=0.01)
    assert root[2, 2] == 1
    assert root[2].sum() == root[:, 2].sum() == 1


def test_singular_moments_name_the_layer_and_the_remedy():
    x = batch(3, 6)[0][0]  # fewer samples than inputs
    with pytest.raises(SparsityError, match=r"fc.weight: .* more samples or a damping above 0"):
        inverse_root("fc.weight", x.T @ x / 3, damping=0)
    inverse_root("fc.weight", x.T @ x / 3, damping=0.01)
