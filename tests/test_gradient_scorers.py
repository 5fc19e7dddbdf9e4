"""Scores by gradients and inputs: Taylor, SNIP, Fisher, Wanda; by eye, and what they foretell."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.probe import Probe
from sparsity_core.scorers import Fisher, Snip, SynFlow, Taylor
from tests.test_scorers import linear, score


def test_taylor_by_eye():
    # loss = (w . x)^2 with w = (2, -1), x = (3, 1): dL/dw = 2 (w . x) x = 10 (3, 1)
    model = nn.Sequential(linear([[2.0, -1.0]]))
    batch = (torch.tensor([[3.0, 1.0]]), torch.zeros(1))
    scores = score("taylor", model, [batch], loss=lambda out, _: out.square().mean())
    assert scores["0.weight"].tolist() == [[60.0, 10.0]]


def test_wanda_by_eye():
    # Columns of x: (3, 4) has norm 5, (0, 2) has norm 2.
    model = nn.Sequential(linear([[1.0, -3.0], [0.5, 0.0]]))
    batch = (torch.tensor([[3.0, 0.0], [4.0, 2.0]]), torch.tensor([0, 1]))
    assert score("wanda", model, [batch])["0.weight"].tolist() == [[5.0, 6.0], [2.5, 0.0]]


def test_snip_against_the_worked_example(vectors):
    example = vectors["snip_tiny"]
    model = nn.Sequential(linear(example["W1"]), nn.ReLU(), linear(example["W2"]))
    batch = (torch.tensor(example["X"]), torch.tensor(example["Y"]))
    probe = Probe(model, [batch])
    assert torch.allclose(probe.gradients["0.weight"], torch.tensor(example["grad_W1"]))
    scores = Snip().score(probe)
    assert torch.allclose(scores["0.weight"], torch.tensor(example["score_W1"]), atol=1e-8)
    assert torch.allclose(scores["2.weight"], torch.tensor(example["score_W2"]), atol=1e-8)
    assert sum(s.sum() for s in scores.values()) == pytest.approx(1)


def test_taylor_of_a_unit_adds_before_it_takes_the_size():
    # Molchanov's group form: 60 and -10 are 50 together, not 70.
    model = nn.Sequential(linear([[2.0, -1.0]]))
    batch = (torch.tensor([[3.0, 1.0]]), torch.zeros(1))
    probe = Probe(model, [batch], loss=lambda out, _: out.square().mean())

    def of_row(scores):
        return scores.mean(1)

    apart, joint = Taylor(), Taylor(joint=True)
    assert apart.pool(apart.score(probe)["0.weight"], of_row).tolist() == [35.0]
    assert joint.pool(joint.score(probe)["0.weight"], of_row).tolist() == [25.0]


def test_joint_taylor_is_the_change_of_the_loss_when_a_filter_goes(small_conv, batches):
    model = small_conv.double()
    data = [(x.double(), y) for x, y in batches]
    inputs, targets = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
    scorer = Taylor(joint=True)
    found = scorer.pool(
        scorer.score(Probe(model, data))["conv1.weight"], lambda s: s.flatten(1).sum(1)
    )
    weight, step = model.conv1.weight, 1e-6
    with torch.no_grad():
        dense = F.cross_entropy(model(inputs), targets)
        for i in range(8):
            before = weight[i].clone()
            weight[i] = before * (1 - step)
            change = (F.cross_entropy(model(inputs), targets) - dense).abs() / step
            weight[i] = before
            assert found[i].item() == pytest.approx(change.item(), rel=1e-3, abs=1e-9)


def test_gradient_by_eye():
    model = nn.Sequential(linear([[2.0, -1.0]]))
    batch = (torch.tensor([[3.0, 1.0]]), torch.zeros(1))
    scores = score("gradient", model, [batch], loss=lambda out, _: out.square().mean())
    assert scores["0.weight"].tolist() == [[30.0, 10.0]]


def test_fisher_by_eye():
    # Losses w x: the gradients of the samples are 3 and 1, mean square 5; w^2 / 2 * 5 = 10.
    model = nn.Sequential(linear([[2.0]]))
    batch = (torch.tensor([[3.0], [1.0]]), torch.zeros(2))
    scores = score("fisher", model, [batch], loss=lambda out, _: out.mean())
    assert scores["0.weight"].tolist() == [[10.0]]


def test_fisher_against_single_samples(small_conv, batches):
    scores = Fisher().score(Probe(small_conv, batches))["conv2.weight"]
    weight = small_conv.conv2.weight
    squares = torch.zeros_like(weight)
    for x, y in zip(*(torch.cat(part) for part in zip(*batches, strict=True)), strict=True):
        loss = F.cross_entropy(small_conv(x[None]), y[None])
        squares += torch.autograd.grad(loss, weight)[0].square() / 10
    assert torch.allclose(scores, weight.detach().square() * squares / 2, rtol=1e-4, atol=1e-10)


def test_synflow_against_the_worked_example(vectors):
    example = vectors["synflow_2layer"]
    model = nn.Sequential(linear(example["W1"]), linear(example["W2"]))
    scores = SynFlow().score(Probe(model, [(torch.randn(3, 2), torch.zeros(3))]))
    assert scores["0.weight"].tolist() == example["score_W1"]
    assert scores["1.weight"].tolist() == example["score_W2"]


def test_synflow_is_conserved_from_layer_to_layer(batches):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(128, 20, bias=False),
        nn.ReLU(), nn.Linear(20, 5, bias=False),
    )  # fmt: skip
    scores = SynFlow().score(Probe(model, batches))
    totals = [score.sum().item() for score in scores.values()]
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-12)
    into, out_of = scores["3.weight"].sum(1), scores["5.weight"].sum(0)
    assert torch.allclose(into, out_of, rtol=1e-12)


def test_taylor_is_the_change_of_the_loss_when_a_weight_goes(small_conv, batches):
    # Oracle without autograd: the loss at w and at w (1 - h), for every weight of a layer.
    model = small_conv.double()
    data = [(x.double(), y) for x, y in batches]
    inputs, targets = torch.cat([x for x, _ in data]), torch.cat([y for _, y in data])
    scores = score("taylor", model, data)["conv2.weight"]
    weight = model.conv2.weight
    step = 1e-6
    with torch.no_grad():
        dense = F.cross_entropy(model(inputs), targets)
        for index in [(0, 0, 0, 0), (3, 2, 1, 1), (7, 3, 2, 0)]:
            before = weight[index].item()
            weight[index] = before * (1 - step)
            change = (F.cross_entropy(model(inputs), targets) - dense).abs() / step
            weight[index] = before
            assert scores[index].item() == pytest.approx(change.item(), rel=1e-3, abs=1e-9)


def test_wanda_norms_are_those_of_the_unfolded_input(small_conv, batches):
    inputs = torch.cat([x for x, _ in batches])
    energy = Probe(small_conv, batches).input_energy
    patches = F.unfold(inputs.square(), 3, padding=1).sum((0, 2)).reshape(1, 3, 3, 3)
    assert torch.allclose(energy["conv1.weight"], patches.expand(8, 3, 3, 3), rtol=1e-5)
    hidden = small_conv.relu(small_conv.conv1(inputs)).square().detach()
    patches = F.unfold(hidden, 3, padding=1, stride=2).sum((0, 2)).reshape(2, 1, 4, 3, 3)
    grouped = patches.expand(2, 4, 4, 3, 3).reshape(8, 4, 3, 3)
    assert torch.allclose(energy["conv2.weight"], grouped, rtol=1e-5)
