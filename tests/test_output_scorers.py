"""The scorers that look at what becomes of a layer's outputs."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS, APoZ, BNScale, MeanActivation
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task

KINDS = ("bn-scale", "mean-activation", "apoz")
OUT_CHANNEL = STRUCTURES.make("out-channel")


class Net(nn.Module):
    """One convolution, then what a test asks for."""

    def __init__(self, then, **modules):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.bn.weight.data = torch.tensor([0.5, -2.0, 0.0, 1.0])
        self.then = then
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.then(self, self.conv(x)).flatten(1)


def images(samples=5):
    return torch.randn(samples, 3, 6, 6, generator=torch.Generator().manual_seed(2))


def probe_of(model, inputs=None):
    inputs = images() if inputs is None else inputs
    return Probe(model, [(inputs[:3], torch.zeros(3).long()), (inputs[3:], torch.zeros(2).long())])


def test_bn_scale_against_the_worked_example(vectors):
    example = vectors["network_slimming"]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    model[1].weight.data = torch.tensor(example["gamma"])
    probe = probe_of(model)
    scores = BNScale().score(probe)["0.weight"]
    assert torch.equal(scores[:, 0, 0, 0], torch.tensor(example["gamma"]).abs())
    assert scores.shape == (8, 3, 3, 3)
    assert (scores == scores[:, :1, :1, :1]).all()
    recipe = Recipe(example["percent"], scorer=BNScale(), structure=OUT_CHANNEL)
    kept = prune(probe, recipe).masks["0.weight"].flatten(1).any(1)
    # The official code keeps what is strictly above the threshold, so it takes one more.
    assert int(kept.sum()) == 4
    gamma = torch.tensor(example["gamma"]).abs()
    strictly = gamma > example["threshold"]
    assert strictly.int().tolist() == example["keep"]
    assert (kept & ~strictly).nonzero().tolist() == [[2]]


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (lambda _, y: F.relu(y), "has no batch norm right behind it"),
        (lambda m, y: m.bn(y) + m.bn2(y), "other operations read too"),
        (lambda m, y: m.bn(y) + y, "other operations read too"),
        (lambda m, y: m.plain(y), r"without a scale \(affine=False\)"),
        (
            lambda m, y: (b := m.bn(y)).sum() + m.bn2(m.conv(b[:, :3])),
            "used with 2 different batch norms",
        ),
    ],
)
def test_bn_scale_refuses_layers_without_one_scale(then, reason):
    model = Net(then, bn2=nn.BatchNorm2d(4), plain=nn.BatchNorm2d(4, affine=False))
    probe = probe_of(model)
    with pytest.raises(SparsityError, match=f"{reason}.*; skip this layer or choose another"):
        prune(probe, Recipe(0.5, scorer=BNScale(), structure=OUT_CHANNEL))
    assert (BNScale().score(probe)["conv.weight"] == 0).all()


def test_apoz_against_the_worked_example(vectors):
    example = vectors["activation_sparsity"]
    a = torch.tensor(example["a"])  # (samples, neurons)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
    model[0].weight.data = torch.eye(4)
    probe = Probe(model, [(a[:1], torch.zeros(1)), (a[1:], torch.zeros(1))])
    scores = APoZ().score(probe)["0.weight"]
    assert scores[:, 0].tolist() == example["per_neuron_alive"]
    assert 1 - scores[:, 0].mean().item() == pytest.approx(example["zero_fraction"])
    # Mean |a| of the same example, by eye.
    assert MeanActivation().score(probe)["0.weight"][:, 0].tolist() == [0, 0.5, 0, 2.5]


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (lambda m, y: m.bn(y), "has no ReLU right behind it"),
        (lambda _, y: F.gelu(y), "has gelu behind it"),
        (lambda _, y: F.hardtanh(y), "has hardtanh behind it"),
        (lambda _, y: F.relu(y) + y, "other operations read too"),
    ],
)
def test_apoz_refuses_layers_that_are_never_zero(then, reason):
    probe = probe_of(Net(then))
    with pytest.raises(SparsityError, match=f"{reason}.*; skip this layer or choose another"):
        prune(probe, Recipe(0.5, scorer=APoZ(), structure=OUT_CHANNEL))


def test_activations_against_hooks():
    # Oracle: forward hooks on modules, all samples at once, in float64.
    task = load_task("digits-mobilenet")
    split = task.train.take(48)
    model = copy.deepcopy(task.model)
    size = MeanActivation().score(Probe(model, split.batches(20)))
    alive = APoZ().score(Probe(model, split.batches(20)))
    seen = {}

    def keep(name):
        return lambda _module, _inputs, output: seen.update({name: output.detach().double()})

    behind = {"stem": "relu"} | {
        f"block{i}.{layer}": f"block{i}.{relu}"
        for i in (1, 2, 3, 4)
        for layer, relu in (("depthwise", "relu1"), ("pointwise", "relu2"))
    }
    for name in (*behind.values(), "fc"):
        model.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad():
        model(split.inputs)
    for layer, activation in behind.items():
        a = seen[activation].transpose(0, 1).flatten(1)
        of_outputs = size[f"{layer}.weight"].flatten(1)
        assert torch.allclose(of_outputs[:, 0].double(), a.abs().mean(1), rtol=1e-5)
        of_outputs = alive[f"{layer}.weight"].flatten(1)
        assert torch.allclose(of_outputs[:, 0].double(), (a != 0).double().mean(1), atol=1e-3)
    assert torch.allclose(size["fc.weight"][:, 0].double(), seen["fc"].abs().mean(0), rtol=1e-5)
    assert (alive["fc.weight"] == 0).all()


def test_a_layer_used_twice_counts_all_of_its_outputs():
    model = Net(lambda m, y: (r := F.relu(y)).sum() + F.relu(m.conv(10 * r[:, :3])).sum((2, 3)))
    first = F.relu(model.conv(images()))
    second = F.relu(model.conv(10 * first[:, :3]))
    a = torch.cat([v.transpose(0, 1).flatten(1) for v in (first, second)], dim=1)
    scores = MeanActivation().score(probe_of(model))["conv.weight"]
    assert torch.allclose(scores[:, 0, 0, 0], a.mean(1).detach(), rtol=1e-5)


def test_infinite_activations_are_named():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    batch = (torch.full((1, 2), 1e38) * 1e5, torch.zeros(1))
    with pytest.raises(NonFiniteError, match=r"0\.weight: 3 of 3 activations are NaN or infinite"):
        APoZ().score(Probe(model, [batch]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["mlp", "lenet", "resnet", "mobilenet", "vit"])
def test_sample_models_are_scored_or_refused(kind, model):
    task = load_task(f"digits-{model}")
    probe = Probe(task.model, task.train.take(64).batches(64))
    scorer = SCORERS.make(kind)
    refused = scorer.refuses(probe)
    scores = scorer.score(probe)
    assert scores.keys() == probe.layers.keys()
    for name, weight in probe.weights.items():
        assert scores[name].shape == weight.shape
        assert (name in refused) == bool((scores[name] == 0).all())
    recipe = Recipe(0.5, scorer=scorer, structure=OUT_CHANNEL)
    if len(refused) == len(probe.layers):
        with pytest.raises(SparsityError, match="skip this layer or choose another scorer"):
            prune(probe, recipe)
        return
    assert prune(probe, recipe).skipped == refused


@pytest.mark.parametrize(
    "kind", [kind for kind in SCORERS if SCORERS.make(kind).ranks == "outputs"]
)
def test_a_second_round_keeps_removed_outputs_removed(kind):
    task = load_task("digits-mobilenet")
    batches = list(task.train.take(16).batches(16))
    recipe = Recipe(0.7, scorer=SCORERS.make(kind), structure=OUT_CHANNEL)
    first = prune(Probe(task.model, batches), recipe, sparsity=0.4)
    second = prune(Probe(task.model, batches, masks=first.masks), recipe)
    assert second.sparsities.keys() == first.sparsities.keys() != set()
    for name, share in second.sparsities.items():
        outputs = second.masks[name].flatten(1)
        assert not (second.masks[name] & ~first.masks[name]).any()
        assert torch.equal(outputs.all(1), outputs.any(1))
        assert second.achieved[name] == pytest.approx(share, abs=0.5 / len(outputs) + 1e-9)
