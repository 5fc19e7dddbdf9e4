"""What every scorer promises, and what the probe they look through does."""

import copy

import pytest
import torch
from torch import nn

from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.probe import Probe
from sparsity_core.scorers import SCORERS, Magnitude, Random, Taylor, Wanda

SIGNED = ("grasp", "obd", "movement")  # a negative score is meant


def score(kind, model, batches, **options):
    return SCORERS.make(kind).score(Probe(model, batches, **options))


def linear(weight, bias=None):
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("movement", {"steps": 0}, "steps must be 1"),
        ("movement", {"rate": 0.0}, "rate must be more"),
        ("movement", {"sparsity": 2}, "sparsity 2"),
        ("woodfisher", {"block": 0}, "block must be 1"),
        ("woodfisher", {"damping": 0.0}, "damping must be more"),
    ],
)
def test_impossible_options(kind, options, message):
    with pytest.raises(SparsityError, match=message):
        SCORERS.make(kind, **options)


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
    if kind in ("random", "gradient", *SIGNED) or SCORERS.make(kind).ranks == "outputs":
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


@pytest.mark.parametrize("kind", SCORERS.kinds())
def test_layers_scored_one_after_another_have_the_same_scores(kind, small_conv, batches):
    if kind in ("obd", "snip", "grasp", "movement"):
        pytest.skip("what it measures involves all layers together: see its definition")
    probe = Probe(small_conv, batches)
    together = SCORERS.make(kind).score(probe)
    alone = Probe(small_conv, batches, own_copy=False)
    for name in probe.layers:
        scores = SCORERS.make(kind).score(alone.only([name]))
        assert list(scores) == [name]
        assert torch.allclose(scores[name], together[name], rtol=1e-5, atol=1e-9)


def test_a_probe_without_its_own_copy_leaves_the_model_alone(small_conv, batches):
    before = copy.deepcopy(small_conv.state_dict())
    for kind in SCORERS:
        SCORERS.make(kind).score(Probe(small_conv, batches, own_copy=False))
    assert all(torch.equal(before[k], v) for k, v in small_conv.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in small_conv.parameters())
    with pytest.raises(SparsityError, match="evaluation mode"):
        Probe(small_conv.train(), own_copy=False)
