"""Scores by curvature: WoodFisher, OBD, GraSP, and Hessian products against the whole Hessian."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.probe import Probe
from sparsity_core.scorers import OBD, SCORERS, Fisher, Grasp, WoodFisher
from tests.test_scorers import linear


def test_woodfisher_by_eye():
    # Gradients (1, 0) and (0, 2), each of one of two samples: F = diag(1/2 + 1, 2 + 1) with
    # damping 1, so 1 / [F^-1]_qq is 1.5 and 3; w^2 / 2 times that.
    model = nn.Sequential(linear([[2.0, 4.0]]))
    batch = (torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2))
    probe = Probe(model, [batch], loss=lambda out, _: out.mean())
    scores = WoodFisher(block=2, damping=1.0).score(probe)["0.weight"]
    assert scores.tolist() == [[pytest.approx(3.0), pytest.approx(24.0)]]


@pytest.mark.parametrize("block", [1, 7, 16])
def test_woodfisher_against_the_inverse_written_out(block, small_conv, batches):
    model = small_conv.double()
    data = [(x.double(), y) for x, y in batches]
    scores = WoodFisher(block=block, damping=1e-3).score(Probe(model, data))["conv1.weight"]
    weight = model.conv1.weight
    gradients = []
    for x, y in zip(*(torch.cat(part) for part in zip(*data, strict=True)), strict=True):
        loss = F.cross_entropy(model(x[None]), y[None])
        gradients.append(torch.autograd.grad(loss, weight)[0].flatten())
    fisher = torch.stack(gradients).T @ torch.stack(gradients) / len(gradients)
    for start in range(0, weight.numel(), block):
        part = slice(start, min(start + block, weight.numel()))
        size = part.stop - part.start
        inverse = torch.linalg.inv(fisher[part, part] + 1e-3 * torch.eye(size))
        w = weight.detach().flatten()[part]
        expected = w.square() / (2 * inverse.diagonal())
        assert torch.allclose(scores.flatten()[part], expected, rtol=1e-4)


def test_woodfisher_of_single_weights_is_the_diagonal_fisher(small_conv, batches):
    probe = Probe(small_conv, batches)
    diagonal = Fisher().score(probe)["fc.weight"]
    found = WoodFisher(block=1, damping=1e-9).score(probe)["fc.weight"]
    assert torch.allclose(found, diagonal, rtol=1e-3, atol=1e-9)


def test_hessian_products_against_the_whole_hessian(vectors):
    example = vectors["snip_tiny"]
    model = nn.Sequential(linear(example["W1"]), nn.Tanh(), linear(example["W2"])).double()
    x, y = torch.tensor(example["X"]).double(), torch.tensor(example["Y"])
    probe = Probe(model, [(x[:1], y[:1]), (x[1:], y[1:])])
    first, last = (w.clone() for w in probe.weights.values())

    def loss(flat):
        w1, w2 = flat[:6].reshape(3, 2), flat[6:].reshape(2, 3)
        return F.cross_entropy(torch.tanh(x @ w1.T) @ w2.T, y)

    flat = torch.cat([first.reshape(-1), last.reshape(-1)])
    hessian = torch.autograd.functional.hessian(loss, flat)
    make = torch.Generator().manual_seed(0)
    vector = {n: torch.randn(w.shape, generator=make).double() for n, w in probe.weights.items()}
    expected = hessian @ torch.cat([v.reshape(-1) for v in vector.values()])
    found = torch.cat([p.reshape(-1) for p in probe.hessian_times(vector).values()])
    assert torch.allclose(found, expected, atol=1e-12)
    many = OBD(draws=4000).score(probe)["0.weight"]
    exact = first.square() / 2 * hessian.diagonal()[:6].reshape(3, 2)
    assert torch.allclose(many, exact, atol=0.02 * exact.abs().max().item() + 1e-4)


def test_obd_by_eye():
    # loss = sum of a w^2 / 2 has the diagonal Hessian a, so one draw is exact: w^2 a / 2.
    model = nn.Sequential(linear([[1.0, 2.0], [3.0, 4.0]]))
    a = torch.tensor([1.0, 10.0])
    batch = (torch.eye(2), torch.zeros(2))
    found = SCORERS.make("obd", draws=1).score(
        Probe(model, [batch], loss=lambda out, _: (a[:, None] * out.square()).sum() / 2)
    )
    assert found["0.weight"].tolist() == [[0.5, 20.0], [4.5, 80.0]]


def test_grasp_against_the_worked_example(vectors):
    example, expected = vectors["snip_tiny"], vectors["grasp_tiny_mlp"]
    model = nn.Sequential(linear(example["W1"]), nn.ReLU(), linear(example["W2"]))
    batch = (torch.tensor(example["X"]), torch.tensor(example["Y"]))
    scores = Grasp(temperature=expected["temperature"]).score(Probe(model, [batch]))
    # The example lists -w * (H g), of which the largest go; here the highest stay.
    assert torch.allclose(-scores["0.weight"], torch.tensor(expected["score_W1"]), atol=1e-6)
    assert torch.allclose(-scores["2.weight"], torch.tensor(expected["score_W2"]), atol=1e-6)


def test_grasp_foretells_the_change_of_the_gradients_norm(small_conv, batches):
    # First order: removing w changes |g|^2 by -2 w (H g).
    model = small_conv.double()
    data = [(x.double(), y) for x, y in batches]
    scores = Grasp(temperature=1.0).score(Probe(model, data))["fc.weight"]

    def norm():
        return sum(g.square().sum() for g in Probe(model, data).gradients.values()).item()

    dense, step = norm(), 1e-5
    for index in [(0, 3), (2, 40), (4, 71)]:
        before = model.fc.weight.data[index].item()
        model.fc.weight.data[index] = before * (1 - step)
        assert (norm() - dense) / step == pytest.approx(-2 * scores[index].item(), rel=1e-3)
        model.fc.weight.data[index] = before
