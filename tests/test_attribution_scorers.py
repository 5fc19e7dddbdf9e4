"""Attribution to the outputs of layers."""

import copy

import pytest
import torch
from torch import nn

from sparsity_core.probe import Probe
from sparsity_core.scorers import SCORERS, Conductance, DeepLift, IntegratedGradients
from sparsity_core.scorers.attributable import owner, view_of
from sparsity_core.task import load_task

KINDS = ("integrated-gradients", "conductance", "deeplift")


class Net(nn.Module):
    """A convolution, then what a test asks for, then a linear layer to three classes."""

    def __init__(self, then=lambda _, y: y, **modules):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.then = then
        for name, module in modules.items():
            self.add_module(name, module)
        self.fc = nn.Linear(4 * 9, 3)

    def forward(self, x):  # (N, 2, 6, 6)
        return self.fc(self.then(self, self.conv(x)).flatten(1))


def data(samples=7):
    make = torch.Generator().manual_seed(3)
    inputs = torch.randn(samples, 2, 6, 6, generator=make)
    return inputs, torch.randint(3, (samples,), generator=make)


def probe_of(model, batch=None):
    inputs, targets = batch or data()
    return Probe(model, [(inputs[:4], targets[:4]), (inputs[4:], targets[4:])])


def attributions(scorer, model, name, inputs, targets):
    view = view_of(model)
    leaf = inputs.clone().requires_grad_()
    return scorer.attribute(view, owner(view, name), leaf, targets).detach()


def change_of(model, inputs, targets):
    """f(x) - f(0) for each sample's label."""
    with torch.no_grad():
        change = model(inputs) - model(torch.zeros_like(inputs))
    return change.gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_linear_model_by_eye(kind):
    # h = W x, f = V h: hidden output j adds V[label, j] * W[j] x to the score of the label.
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].weight.data = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    model[1].weight.data = torch.tensor([[3.0, 4.0], [-5.0, 0.0]])
    batch = (torch.tensor([[1.0, 1.0], [2.0, 0.0]]), torch.tensor([0, 1]))
    scores = SCORERS.make(kind).score(Probe(model, [batch]))
    # Sample 1: 3 * 3 and 4 * -1; sample 2: -5 * 2 and 0 * 0.
    assert scores["0.weight"].tolist() == [
        pytest.approx([(9 + 10) / 2] * 2, rel=1e-5),
        pytest.approx([(4 + 0) / 2] * 2, rel=1e-5),
    ]
    # Classes: only the label's own score counts; 9 - 4 and -10.
    assert scores["1.weight"][:, 0].tolist() == pytest.approx([5 / 2, 10 / 2], rel=1e-5)


def test_deeplift_of_a_relu_by_hand():
    # Rescale rule: hidden output j adds V[label, j] * (relu(h_j) - relu(h'_j)).
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    inputs, targets = torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    changes = (model[:2](inputs) - model[:2](torch.zeros(1, 5))) * model[2].weight[targets]
    scores = DeepLift().score(Probe(model, [(inputs, targets)]))["0.weight"]
    assert torch.allclose(scores[:, 0], changes.abs().mean(0).detach(), rtol=1e-4)


def test_integrated_gradients_against_a_riemann_sum():
    model = Net(lambda _, y: torch.tanh(y)[..., ::2, ::2]).double()
    inputs, targets = data()
    inputs = inputs.double()
    with torch.no_grad():
        h, base = model.conv(inputs), model.conv(torch.zeros_like(inputs))
    mean = torch.zeros_like(h)
    steps = 500
    for step in range(steps):
        at = (base + (step + 0.5) / steps * (h - base)).requires_grad_()
        f = model.fc(torch.tanh(at)[..., ::2, ::2].flatten(1)).gather(1, targets[:, None]).sum()
        mean += torch.autograd.grad(f, at)[0] / steps
    expected = ((h - base) * mean).sum((2, 3)).abs().mean(0)
    scores = IntegratedGradients(steps=20).score(probe_of(model, (inputs, targets)))
    assert torch.allclose(scores["conv.weight"][:, 0, 0, 0], expected, rtol=1e-5)


def test_conductance_against_a_riemann_sum():
    model = Net(lambda m, y: torch.tanh(m.second(torch.tanh(y)))[..., ::2, ::2],
                second=nn.Conv2d(4, 4, 3, padding=1)).double()  # fmt: skip
    inputs, targets = data()
    inputs = inputs.double()

    def hidden(share):
        with torch.no_grad():
            return model.second(torch.tanh(model.conv(share * inputs)))

    steps, total = 2000, 0
    for step in range(steps):
        at = hidden((step + 0.5) / steps).requires_grad_()
        f = model.fc(torch.tanh(at)[..., ::2, ::2].flatten(1)).gather(1, targets[:, None]).sum()
        change = hidden((step + 1) / steps) - hidden(step / steps)
        total += torch.autograd.grad(f, at)[0] * change
    expected = total.sum((2, 3)).abs().mean(0)
    scores = Conductance(steps=100).score(probe_of(model, (inputs, targets)))
    assert torch.allclose(scores["second.weight"][:, 0, 0, 0], expected, rtol=2e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_attributions_of_a_layer_that_all_paths_cross_add_up(kind):
    model = Net(lambda m, y: m.pool(m.act2(m.second(m.act(y)))),
                act2=nn.Tanh(), second=nn.Conv2d(4, 4, 3, padding=1)).double()  # fmt: skip
    model.act = nn.Softplus()
    inputs, targets = data()
    inputs = inputs.double()
    scorer = SCORERS.make(kind) if kind == "deeplift" else SCORERS.make(kind, steps=400)
    for name in ("conv.weight", "second.weight", "fc.weight"):
        found = attributions(scorer, model, name, inputs, targets)
        # A max is not smooth, so integrals converge slowly; the rescale rule is exact.
        tolerance = 1e-12 if kind == "deeplift" else 0.02
        change = change_of(model, inputs, targets)
        assert torch.allclose(found.flatten(1).sum(1), change, atol=tolerance)
        assert change.abs().mean() > 0.1


@pytest.mark.parametrize(
    "behind",
    [
        [nn.ReLU()],
        [nn.ELU()],
        [nn.LeakyReLU(0.2)],
        [nn.Sigmoid()],
        [nn.Tanh()],
        [nn.Softplus()],
        [nn.MaxPool2d(2)],
        [nn.MaxPool2d(3, padding=1)],
        [nn.MaxPool2d(4, ceil_mode=True)],
        [nn.MaxPool2d(2), nn.ReLU()],  # captum alone gets these three wrong
        [nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), nn.ReLU(), nn.MaxPool2d(2)],
        [nn.Tanh(), nn.Sigmoid()],
        [nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AvgPool2d(2)],
    ],
)
def test_the_rules_of_deeplift_add_up(behind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *behind, nn.Flatten(), nn.LazyLinear(3))
    inputs, targets = data()
    model.eval()(inputs)
    found = attributions(DeepLift(), model, "0.weight", inputs, targets)
    assert torch.allclose(found.flatten(1).sum(1), change_of(model, inputs, targets), atol=1e-5)
    probe = probe_of(model, (inputs, targets))
    assert DeepLift().refuses(probe) == {}
    expected = found.sum((2, 3)).abs().mean(0)
    assert torch.allclose(DeepLift().score(probe)["0.weight"][:, 0, 0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_left_as_it_was(kind):
    model = Net(lambda m, y: m.pool(m.act(y)))
    model.act = nn.ReLU(inplace=True)
    plain = copy.deepcopy(model)
    plain.act = nn.ReLU()
    probe = probe_of(model)
    before = copy.deepcopy(probe.model.state_dict())
    scores = SCORERS.make(kind).score(probe)
    assert all(torch.equal(before[k], v) for k, v in probe.model.state_dict().items())
    for module in probe.model.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        assert not any(hooks)
        assert not hasattr(module, "input")
    assert probe.model.act.inplace
    assert not any(p.requires_grad or p.grad is not None for p in probe.model.parameters())
    same = SCORERS.make(kind).score(probe_of(plain))
    assert all(torch.equal(scores[name], same[name]) for name in scores)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_do_not_depend_on_how_samples_are_batched(kind, monkeypatch):
    from sparsity_core.scorers import attribution

    model = Net(lambda m, y: m.pool(m.act(y)))
    together = SCORERS.make(kind).score(Probe(model, [data()]))
    monkeypatch.setattr(attribution, "_ROWS", 1)
    one_by_one = SCORERS.make(kind).score(probe_of(model))
    for name, scores in together.items():
        assert torch.allclose(scores, one_by_one[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_ranks_outputs_as_float64_does(kind):
    model = Net(lambda m, y: m.pool(m.act(y)))
    inputs, targets = data(40)
    half, double = (
        SCORERS.make(kind).score(
            probe_of(copy.deepcopy(model).to(dtype), (inputs.to(dtype), targets))
        )
        for dtype in (torch.bfloat16, torch.float64)
    )
    for name, scores in double.items():
        assert torch.allclose(half[name].double(), scores, rtol=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["mlp", "lenet", "resnet", "mobilenet", "vit"])
def test_sample_models_are_scored_or_refused(kind, model):
    task = load_task(f"digits-{model}")
    probe = Probe(task.model, task.train.take(64).batches(64))
    scorer = SCORERS.make(kind) if kind == "deeplift" else SCORERS.make(kind, steps=5)
    refused = scorer.refuses(probe)
    suits = (kind, model) != ("deeplift", "vit")
    assert list(refused) == ([] if suits else list(probe.layers))
    for name, scores in scorer.score(probe).items():
        assert scores.shape == probe.weights[name].shape
        assert (scores == scores.flatten(1)[:, 0].reshape(-1, *[1] * (scores.dim() - 1))).all()
        assert bool(scores.any()) == (not refused)  # a dead neuron may well score zero
