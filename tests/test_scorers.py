"""Each scorer: a case by eye, an oracle, and what all of them promise."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.probe import Probe
from sparsity_core.scorers import (
    OBD,
    SCORERS,
    Fisher,
    Grasp,
    Magnitude,
    Random,
    Snip,
    SynFlow,
    Taylor,
    Wanda,
)

SIGNED = ("grasp", "obd")  # a negative score is meant


def score(kind, model, batches, **options):
    return SCORERS.make(kind).score(Probe(model, batches, **options))


def linear(weight, bias=None):
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def test_magnitude_by_eye():
    model = nn.Sequential(linear([[0.1, -0.5], [0.3, 0.0]]))
    assert score("magnitude", model, [])["0.weight"].tolist() == [
        pytest.approx([0.1, 0.5]),
        pytest.approx([0.3, 0.0]),
    ]


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


def test_attention_projections_are_seen():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x[:, :2] * 2, x[:, :2] * 2)[0].mean(1)

    torch.manual_seed(0)
    x = torch.randn(3, 4, 8)
    energy = Probe(Attention(), [(x, torch.zeros(3).long())]).input_energy
    query = x.square().sum((0, 1))
    key = (2 * x[:, :2]).square().sum((0, 1))
    name = "attention.in_proj_weight"
    assert torch.allclose(energy[name][:8], query.expand(8, 8), rtol=1e-5)
    assert torch.allclose(energy[name][8:], key.expand(16, 8), rtol=1e-5)
    assert (energy["attention.out_proj.weight"] > 0).all()


def test_gradients_do_not_depend_on_how_samples_are_batched(small_conv, batches):
    one = [(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))]
    apart, together = Probe(small_conv, batches), Probe(small_conv, one)
    for name, gradient in together.gradients.items():
        assert torch.allclose(apart.gradients[name], gradient, atol=1e-7)


def test_gradients_reach_pruned_weights(small_conv, batches):
    masks = {"fc.weight": torch.zeros(5, 72, dtype=torch.bool)}
    probe = Probe(small_conv, batches, masks=masks)
    assert (probe.weights["fc.weight"] == 0).all()
    assert (probe.gradients["fc.weight"] != 0).any()


def test_random_depends_on_seed_and_name_only(small_conv):
    first = Random().score(Probe(small_conv, seed=3))
    again = Random().score(Probe(nn.ModuleDict({"fc": small_conv.fc}), seed=3))
    other = Random().score(Probe(small_conv, seed=4))
    assert torch.equal(first["fc.weight"], again["fc.weight"])
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


@pytest.mark.parametrize("kind", SCORERS.kinds())
def test_scores_have_the_shape_of_weights_and_repeat(kind, small_conv, batches):
    before = copy.deepcopy(small_conv.state_dict())
    first = score(kind, small_conv, batches)
    second = score(kind, copy.deepcopy(small_conv), batches)
    for name, weight in Probe(small_conv).weights.items():
        assert first[name].shape == weight.shape
        assert torch.isfinite(first[name]).all()
        if kind not in SIGNED:
            assert (first[name] >= 0).all()
        assert torch.equal(first[name], second[name])
    assert all(torch.equal(before[k], v) for k, v in small_conv.state_dict().items())


@pytest.mark.parametrize("kind", SCORERS.kinds())
def test_a_zero_weight_scores_lowest(kind, small_conv, batches):
    if kind in ("random", "gradient", *SIGNED):
        pytest.skip("this score does not promise it: see its definition")
    small_conv.fc.weight.data[0, :5] = 0
    scores = score(kind, small_conv, batches)["fc.weight"]
    assert (scores[0, :5] == 0).all()


@pytest.mark.parametrize("kind", SCORERS.kinds())
def test_a_scorer_without_its_data_says_so(kind, small_conv):
    scorer = SCORERS.make(kind)
    if not scorer.needs_data:
        assert scorer.score(Probe(small_conv))
        return
    with pytest.raises(SparsityError, match="no batches"):
        scorer.score(Probe(small_conv))


def test_nan_weights_are_named(small_conv, batches):
    small_conv.conv1.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"conv1\.weight: .* NaN or infinite"):
        Taylor().score(Probe(small_conv, batches))


def test_scoring_is_in_evaluation_mode(batches):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9), nn.Flatten(), nn.Linear(64, 5)
    ).train()
    running = model[1].running_mean.clone()
    assert torch.equal(
        Taylor().score(Probe(model, batches))["0.weight"],
        Taylor().score(Probe(model, batches))["0.weight"],
    )
    assert torch.equal(model[1].running_mean, running)
    assert model.training


def test_equal_scorers_are_equal():
    assert Magnitude() == Magnitude()
    assert len({Wanda(), Wanda(), Taylor()}) == 2
