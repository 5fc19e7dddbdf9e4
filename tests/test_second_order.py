"""The score of optimal brain surgeon: its worked example, and its definition written out."""

import pytest
import torch
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.moments import layer_inputs
from sparsity_core.probe import Probe
from sparsity_core.scorers import OBS, SCORERS


def test_against_the_worked_example(vectors):
    example = vectors["sparsegpt_2x4"]
    model = nn.Sequential(nn.Linear(4, 2, bias=False, dtype=torch.float64))
    model[0].weight.data = torch.tensor(example["W"], dtype=torch.float64)
    inputs = torch.tensor(example["X"], dtype=torch.float64)
    scores = OBS(damping=0.0).score(Probe(model, [(inputs, torch.zeros(6))]))["0.weight"]
    expected = torch.tensor(example["OBS_saliency_w2_over_2Hinv"], dtype=torch.float64)
    assert torch.allclose(scores, expected, atol=1e-9)


def test_is_the_error_that_remains_when_the_other_weights_make_up_for_it(small_conv):
    make = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, 6, 6, generator=make, dtype=torch.float64)
    batches = [(inputs[:25], torch.zeros(25)), (inputs[25:], torch.zeros(15))]
    model = small_conv.double()
    probe = Probe(model, batches).only(["conv2.weight"])
    scores = OBS(damping=0.0).score(probe)["conv2.weight"].flatten(1)
    found = list(layer_inputs(model, "conv2.weight", batches))
    for row, q in ((0, 0), (3, 17), (7, 35)):
        x = torch.cat([x for rows, x in found if rows.start <= row < rows.stop])
        weight = model.conv2.weight[row].flatten().detach()
        others = [i for i in range(len(weight)) if i != q]
        best = torch.linalg.lstsq(x[:, others], x @ weight).solution
        error = (x[:, others] @ best - x @ weight).square().mean()
        assert torch.allclose(scores[row, q], error, rtol=1e-6)


def test_weights_of_inputs_that_are_always_zero_matter_least():
    inputs = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    inputs[:, 2] = 0
    scores = OBS().score(Probe(nn.Linear(4, 3), [(inputs, torch.zeros(30))]))["weight"]
    assert (scores[:, 2] == 0).all()
    assert (scores[:, [0, 1, 3]] > 0).all()


def test_layers_that_are_never_used_score_zero(small_conv, batches):
    small_conv.spare = nn.Linear(3, 3)
    assert not OBS().score(Probe(small_conv, batches))["spare.weight"].any()


def test_too_few_samples_without_damping(small_conv, batches):
    with pytest.raises(SparsityError, match=r"fc.weight: .* more samples or a damping above 0"):
        OBS(damping=0.0).score(Probe(small_conv, batches))
    with pytest.raises(SparsityError, match="damping must be 0 or more"):
        SCORERS.make("obs", damping=-0.1)
