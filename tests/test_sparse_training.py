"""Training of living weights alone: the same numbers as masked dense training, in less memory."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from sparsity_core.allocations import Uniform
from sparsity_core.data import Split
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.budgets import budgets_of
from sparsity_core.dynamic.course import MovingCourse
from sparsity_core.dynamic.sparse_course import SparseCourse, why_not_sparse
from sparsity_core.dynamic.sparse_linear import SparseLinear
from sparsity_core.errors import SparsityError
from sparsity_core.recipe import Training

LAYERWISE = [kind for kind in RULES if RULES.make(kind).layerwise]
TRAINING = Training(steps=24, rate=0.05, weight_decay=1e-3, batch_size=8)


def model_of():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))


def split_of():
    make = torch.Generator().manual_seed(5)
    inputs = torch.randn(60, 8, generator=make)
    return Split(inputs, inputs[:, :4].argmax(1))


def courses(kind, training=TRAINING, sparsity=0.75):
    options = {"every": 4} if "every" in RULES.options_of(kind) else {}
    rule = RULES.make(kind, **options)
    kept = budgets_of(model_of(), rule, Uniform(), sparsity).kept
    make = (MovingCourse, SparseCourse)
    return [cls(model_of(), split_of(), training, rule, kept, seed=2) for cls in make]


def test_a_layer_by_eye():
    weight = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    layer = SparseLinear(weight, weight != 0, torch.tensor([0.5, 0.25, 0.0]))
    assert layer.starts.tolist() == [0, 2, 2, 3]
    assert layer.columns.tolist() == [0, 2, 1]
    assert layer(torch.tensor([[1.0, 10.0, 100.0]])).tolist() == [[201.5, 0.25, 30.0]]
    assert torch.equal(layer.dense(), weight)


@pytest.mark.parametrize("batch", [1, 3, 8, 21])
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_a_layer_is_a_masked_linear_layer(batch, density):
    make = torch.Generator().manual_seed(batch)
    weight, bias = torch.randn(7, 10, generator=make), torch.randn(7, generator=make)
    mask = torch.rand(7, 10, generator=make) < density
    layer = SparseLinear(weight, mask, bias)
    layer.watched = True
    dense = nn.Linear(10, 7)
    dense.weight.data, dense.bias.data = weight * mask, bias.clone()
    x = torch.randn(batch, 10, generator=make, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    upstream = torch.randn(batch, 7, generator=make)
    layer(x).backward(upstream)
    dense(other).backward(upstream)
    close = {"atol": 1e-5, "rtol": 1e-5}
    assert torch.allclose(layer(x), dense(x), **close)
    assert torch.allclose(x.grad, other.grad, **close)
    assert torch.allclose(layer.values.grad, dense.weight.grad[mask], **close)
    assert torch.allclose(layer.bias.grad, dense.bias.grad, **close)
    assert torch.allclose(layer.dense_gradient(), dense.weight.grad, **close)
    with pytest.raises(SparsityError, match="takes float32 on the cpu"):
        layer(x.double())


@pytest.mark.parametrize("kind", LAYERWISE)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_sparse_training_is_simulated_training(kind, optimizer):
    training = Training(steps=24, optimizer=optimizer, rate=0.01, weight_decay=1e-3, batch_size=8)
    simulated, sparse = courses(kind, training)
    losses = [simulated.advance_(), sparse.advance_()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert all(torch.equal(simulated.live[name], mask) for name, mask in sparse.live.items())
    state = sparse.plain_state()
    assert list(state) == list(simulated.state())
    for name, value in simulated.state().items():
        assert torch.allclose(value, state[name], atol=1e-4)
    assert simulated.spent == pytest.approx(sparse.spent)
    for name, layer in sparse.layers.items():
        moments = simulated._optimizer.state[simulated.layers[name]]
        for key, value in sparse._optimizer.state[layer.values].items():
            if key != "step":
                assert torch.allclose(layer.dense(value), moments[key], atol=1e-4)


@pytest.mark.parametrize("kind", LAYERWISE)
@pytest.mark.parametrize("stop", [0, 9, 20])
def test_going_on_elsewhere_is_as_if_never_stopped(kind, stop):
    whole, part, other = (courses(kind)[1] for _ in range(3))
    whole.advance_()
    part.advance_(stop)
    file = io.BytesIO()
    torch.save(part.save(), file)
    file.seek(0)
    other.resume_(torch.load(file, weights_only=True))
    other.advance_()
    assert all(torch.equal(value, other.state()[name]) for name, value in whole.state().items())
    assert (whole.spent, whole.history.counts) == (other.spent, other.history.counts)


@pytest.mark.parametrize("sparsity", [0.0, 1.0])
def test_budgets_of_all_and_of_nothing(sparsity):
    sparse = courses("rigl", sparsity=sparsity)[1]
    sparse.advance_()
    assert sum(int(m.sum()) for m in sparse.live.values()) == round(144 * (1 - sparsity))


def test_what_cannot_be_trained_sparsely():
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    assert why_not_sparse(convolution, RULES.make("rigl")) == "0.weight is no linear layer"
    assert "needs all weights" in why_not_sparse(model_of(), RULES.make("gmp"))
    with pytest.raises(SparsityError, match="choose simulated"):
        SparseCourse(model_of(), split_of(), TRAINING, RULES.make("str"), {})


def test_memory_at_99_per_cent():
    """Weights with their places, gradients and momentum under 5 % of the dense ones."""
    torch.manual_seed(0)
    widths = (784, 1000, 1000, 1000, 10)
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
    dense = 3 * 4 * sum(parameter.numel() for parameter in model.parameters())
    rule = RULES.make("rigl", every=2)
    kept = budgets_of(model, rule, Uniform(), 0.99).kept
    make = torch.Generator().manual_seed(0)
    split = Split(torch.randn(40, 784, generator=make), torch.arange(40) % 10)
    course = SparseCourse(model, split, Training(steps=4, batch_size=10), rule, kept)
    course.advance_()
    values = sum(layer.values.numel() for layer in course.layers.values())
    biases = sum(layer.bias.numel() for layer in course.layers.values())
    assert values == sum(kept.values())
    starts = sum(layer.starts.numel() for layer in course.layers.values())
    # Value, place, gradient and momentum of each weight; three of each bias; where rows begin.
    assert course.bytes == 16 * values + 12 * biases + 4 * starts
    assert course.bytes < 0.05 * dense
    assert np.isclose(course.bytes / dense, 0.0149, atol=2e-3)
