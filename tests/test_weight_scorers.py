"""Scores of weights alone, and of how training moves them: by eye and written out."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune as torch_prune
from torch import nn

from sparsity_core.allocations import Threshold
from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import HanThreshold, Magnitude, Movement
from sparsity_core.selection import count_pruned
from sparsity_core.structures import OutChannel
from tests.test_scorers import linear, score


def test_magnitude_by_eye():
    model = nn.Sequential(linear([[0.1, -0.5], [0.3, 0.0]]))
    assert score("magnitude", model, [])["0.weight"].tolist() == [
        pytest.approx([0.1, 0.5]),
        pytest.approx([0.3, 0.0]),
    ]


def test_magnitude_of_units_by_either_norm():
    scores = torch.tensor([[3.0, 4.0], [0.0, 6.0]])

    def of_row(x):
        return x.mean(1)

    assert Magnitude().pool(scores, of_row).tolist() == [3.5, 3.0]
    assert Magnitude(norm=2).pool(scores, of_row).tolist() == [
        pytest.approx(5 / 2**0.5),
        pytest.approx(6 / 2**0.5),
    ]
    with pytest.raises(SparsityError, match="norm must be 1 or 2"):
        Magnitude(norm=3)


@pytest.mark.parametrize("norm", [1, 2])
def test_magnitude_of_channels_agrees_with_torch(norm):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 10, 3)
    recipe = Recipe(0.3, Magnitude(norm=norm), OutChannel())
    mask = prune(Probe(nn.Sequential(copy.deepcopy(layer))), recipe).masks["0.weight"]
    torch_prune.ln_structured(layer, "weight", 0.3, n=norm, dim=0)
    assert torch.equal(mask, layer.weight_mask.bool())


def test_han_threshold_against_the_worked_example(vectors):
    example = vectors["magnitude_2x3"]
    model = nn.Sequential(linear(example["W"]))
    std = example["han_std_threshold"]["std_population"]
    scores = score("han-threshold", model, [])["0.weight"]
    assert torch.allclose(scores, torch.tensor(example["W"]).abs() / std, rtol=1e-6)
    rule = Recipe(0.9, HanThreshold(), allocation=Threshold(0.5))
    mask = prune(Probe(model), rule).masks["0.weight"]
    assert mask.int().tolist() == example["han_std_threshold"]["mask_q0.5_population"]


def test_han_threshold_of_equal_weights():
    model = nn.Sequential(linear([[0.5, 0.5], [0.5, 0.5]]), linear([[0.0, 0.0]]))
    scores = score("han-threshold", model, [])
    assert scores["0.weight"].tolist() == [[0.5, 0.5]] * 2
    assert scores["1.weight"].tolist() == [[0.0, 0.0]]


def test_geometric_median_by_eye():
    # Filters at 0, 3 and 10 on a line: 3 is 3 + 7 away from the others, 0 is 13, 10 is 17.
    model = nn.Sequential(linear([[0.0, 0.0], [3.0, 0.0], [10.0, 0.0]]))
    scores = score("geometric-median", model, [])["0.weight"]
    assert scores.tolist() == [[13.0, 13.0], [10.0, 10.0], [17.0, 17.0]]


def test_geometric_median_written_out_slowly(small_conv):
    scores = score("geometric-median", small_conv, [])["conv2.weight"]
    filters = small_conv.conv2.weight.detach().flatten(1)
    for j, one in enumerate(filters):
        total = sum(float(((one - other) ** 2).sum()) ** 0.5 for other in filters)
        assert scores[j].flatten().tolist() == pytest.approx([total] * filters.shape[1], rel=1e-5)


def test_movement_against_the_worked_example(vectors):
    example = vectors["movement"]
    model = nn.Sequential(linear([example["w"]]))
    slope = torch.tensor(example["dL_dWmasked"])
    batch = (torch.eye(3), torch.zeros(3))  # the outputs are the weights themselves
    probe = Probe(model, [batch], loss=lambda out, _: (out[:, 0] * slope).sum())
    found = Movement(steps=1, rate=example["lr"]).score(probe)["0.weight"]
    assert found[0].tolist() == pytest.approx(example["score_delta"])


def test_movement_written_out_step_by_step(small_conv, batches):
    found = Movement(steps=5, rate=0.1, sparsity=0.6).score(Probe(small_conv, batches))
    model = copy.deepcopy(small_conv)
    names = list(found)
    trained = {n: dict(model.named_parameters())[n].detach().clone() for n in names}
    scores = {n: torch.zeros_like(w) for n, w in trained.items()}
    for step in range(5):
        sparsity = 0.6 * (1 - (1 - step / 5) ** 3)
        masks = {}
        for name, s in scores.items():
            order = s.flatten().argsort(descending=True, stable=True)
            masks[name] = torch.zeros(s.numel())
            masks[name][order[: s.numel() - count_pruned(s.numel(), sparsity)]] = 1
            masks[name] = masks[name].reshape(s.shape)
        with torch.no_grad():
            for name in names:
                dict(model.named_parameters())[name].copy_(trained[name] * masks[name])
        inputs, targets = batches[step % 2]
        model.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        for name in names:
            gradient = dict(model.named_parameters())[name].grad
            scores[name] -= 0.1 * gradient * trained[name]
            trained[name] -= 0.1 * gradient * masks[name]
    for name in names:
        assert torch.allclose(found[name], scores[name], atol=1e-7)


def test_movement_leaves_dead_weights_dead(small_conv, batches):
    dead = {"fc.weight": torch.rand(5, 72, generator=torch.Generator().manual_seed(0)) < 0.5}
    scores = Movement(steps=3).score(Probe(small_conv, batches, masks=dead))["fc.weight"]
    assert (scores[~dead["fc.weight"]] == 0).all()
    assert (scores[dead["fc.weight"]] != 0).any()
