"""A model is measured: every sample, in evaluation mode, whatever comes out."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.data import Split
from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.task import Metric
from sparsity_core.train import evaluate, train_
from tests.test_train import SGD, perceptron, same, split_of


def test_every_sample_is_measured():
    model, split = perceptron().eval(), split_of()
    found = evaluate(model, split, batch_size=7)
    outputs = model(split.inputs)
    assert torch.allclose(found.losses, F.cross_entropy(outputs, split.targets, reduction="none"))
    assert found.predictions.tolist() == outputs.argmax(1).tolist()
    assert found.values.tolist() == (outputs.argmax(1) == split.targets).float().tolist()
    assert found.value == pytest.approx(found.values.sum().item() / 30)
    assert found.loss == pytest.approx(F.cross_entropy(outputs, split.targets).item())
    assert not found.losses.requires_grad


@pytest.mark.parametrize("size", [1, 29, 30, 1000])
def test_the_batch_size_changes_nothing(size):
    model = nn.Sequential(perceptron(), nn.BatchNorm1d(3))
    found, expected = (evaluate(model, split_of(), batch_size=n) for n in (size, 10))
    assert torch.allclose(found.losses, expected.losses, atol=1e-6)
    assert torch.equal(found.predictions, expected.predictions)


def test_modes_come_back_module_by_module():
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    model.train()
    model[1].eval()  # frozen statistics
    before = copy.deepcopy(model)
    first, again = evaluate(model, split_of()), evaluate(model, split_of())
    assert [m.training for m in model] == [True, False, True]
    assert torch.equal(first.losses, again.losses)  # no dropout
    assert same(model, before)
    with pytest.raises(SparsityError):
        evaluate(model, split_of(classes=5))
    assert [m.training for m in model] == [True, False, True]


def test_own_loss_and_metric():
    distance = Metric("distance", lambda x, y: (x[:, 0] - y).abs(), higher_is_better=False)
    model, split = nn.Linear(6, 3), split_of()
    found = evaluate(model, split, loss=lambda x, y: (x[:, 0] - y) ** 2, metric=distance)
    assert torch.allclose(found.losses, found.values**2)


def test_broken_outputs_are_counted():
    inputs = torch.ones(5, 6)
    inputs[1, 0], inputs[4, 2] = torch.nan, torch.inf
    split = Split(inputs, torch.zeros(5, dtype=torch.long), "some test")
    with pytest.raises(NonFiniteError, match="some test: the outputs for 2 of 5 samples"):
        evaluate(perceptron(), split, batch_size=2)


@pytest.mark.parametrize("label", [3, -1, -100])
def test_a_label_without_an_output_is_named(label):
    split = Split(torch.ones(4, 6), torch.tensor([0, 1, label, 2]), "some test")
    message = f"some test: label {label} is out of range for a model with 3 outputs"
    with pytest.raises(SparsityError, match=message):
        evaluate(perceptron(), split)
    with pytest.raises(SparsityError, match=message):
        train_(perceptron(), split, SGD)


def test_nothing_to_evaluate():
    with pytest.raises(SparsityError, match="some train: no samples"):
        evaluate(perceptron(), split_of().take(0))
    with pytest.raises(SparsityError, match="some train: no samples"):
        train_(perceptron(), split_of().take(0), SGD)
