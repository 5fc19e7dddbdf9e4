"""Training: against plain loops, under masks, by seed, and when things go wrong."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.data import Split
from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.recipe import Training
from sparsity_core.train import train_

SGD = Training(epochs=3, rate=0.1, momentum=0.9, weight_decay=0.01, batch_size=8)
ADAM = replace(SGD, optimizer="adam", rate=0.01)
ALL = pytest.mark.parametrize(
    "training",
    [SGD, replace(SGD, optimizer="nesterov"), ADAM],
    ids=["sgd", "nesterov", "adam"],
)


def split_of(count=30, width=6, classes=3):
    make = torch.Generator().manual_seed(5)
    inputs = torch.randn(count, width, generator=make)
    return Split(inputs, inputs[:, :classes].argmax(1), "some train")


def perceptron(width=6, hidden=8):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 3))


def same(a, b):
    return all(torch.equal(a.state_dict()[key], b.state_dict()[key]) for key in a.state_dict())


# Evaluation


# Training against a plain loop


@ALL
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_training_is_the_plain_loop(training, schedule):
    split = split_of(32)
    model = perceptron()
    plain = copy.deepcopy(model)
    training = replace(training, rate_schedule=schedule)
    seen = []
    losses = train_(model, split, training, seed=7, on_epoch=seen.append)

    if training.optimizer in ("sgd", "nesterov"):
        nesterov = training.optimizer == "nesterov"
        optimizer = torch.optim.SGD(
            plain.parameters(), 0.1, 0.9, weight_decay=0.01, nesterov=nesterov
        )
    else:
        optimizer = torch.optim.Adam(plain.parameters(), 0.01, weight_decay=0.01)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3 * 4)
    order = torch.Generator().manual_seed(7)
    for epoch in range(3):
        total = 0.0
        for indices in torch.randperm(32, generator=order).reshape(4, 8):
            optimizer.zero_grad()
            loss = F.cross_entropy(plain(split.inputs[indices]), split.targets[indices])
            loss.backward()
            rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            if schedule == "cosine":
                falling.step()
            total += loss.item() / 4
        assert losses[epoch] == pytest.approx(total)
        assert seen[epoch].loss == losses[epoch]
        assert seen[epoch].rate == pytest.approx(rate)
        assert (seen[epoch].epoch, seen[epoch].epochs) == (epoch + 1, 3)
        assert (seen[epoch].step, seen[epoch].steps) == (4 * epoch + 4, 12)
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
    assert losses[-1] < losses[0]
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_clipping_limits_the_norm_of_a_step():
    model = perceptron()
    before = copy.deepcopy(model)
    once = Training(epochs=1, rate=0.5, momentum=0, batch_size=30, clip=1e-3)
    train_(model, split_of(), once)
    steps = [a - b for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    norm = torch.cat([s.flatten() for s in steps]).norm().item()
    assert norm == pytest.approx(0.5 * 1e-3, rel=1e-3)


# Masks


@ALL
@pytest.mark.parametrize("clip", [None, 0.05])
def test_pruned_inputs_are_as_if_they_were_not_there(training, clip):
    # Weights, momentum, decay and the norm for clipping must all ignore what is pruned.
    split, training = split_of(), replace(training, clip=clip)
    model, small = perceptron(), perceptron(width=4)
    small.load_state_dict(model.state_dict() | {"0.weight": model[0].weight[:, :4].clone()})
    mask = torch.ones(8, 6, dtype=torch.bool)
    mask[:, 4:] = False
    losses = train_(model, split, training, masks={"0.weight": mask})
    expected = train_(small, Split(split.inputs[:, :4], split.targets), training)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert torch.allclose(model[0].weight[:, :4], small[0].weight, atol=1e-5)
    assert torch.allclose(model[2].weight, small[2].weight, atol=1e-5)
    assert (model[0].weight[:, 4:] == 0).all()


@ALL
def test_pruned_weights_and_biases_stay_exactly_zero(training):
    model = perceptron()
    make = torch.Generator().manual_seed(3)
    masks = {
        name: torch.rand(p.shape, generator=make) < 0.5 for name, p in model.named_parameters()
    }
    inside = []
    model.register_forward_pre_hook(
        lambda *_: inside.append(
            all((p[~masks[n]] == 0).all() for n, p in model.named_parameters())
        )
    )
    train_(model, split_of(), training, masks=masks)
    assert len(inside) == 12
    assert all(inside)
    for name, parameter in model.named_parameters():
        assert (parameter[~masks[name]] == 0).all()
        assert not torch.signbit(parameter[~masks[name]]).any()  # 0, not -0
        assert (parameter[masks[name]] != 0).all()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x).relu())


def test_tied_weights_are_masked_under_their_one_name():
    model, mask = Tied(), torch.eye(3, dtype=torch.bool)
    train_(model, split_of(width=3), SGD, masks={"a.weight": mask})
    assert (model.b.weight[~mask] == 0).all()
    with pytest.raises(SparsityError, match=r"'b\.weight'"):
        train_(Tied(), split_of(width=3), SGD, masks={"b.weight": mask})


def test_masks_that_do_not_fit():
    with pytest.raises(SparsityError, match="'0.weigth'; did you mean '0.weight'"):
        train_(perceptron(), split_of(), SGD, masks={"0.weigth": torch.ones(8, 6).bool()})
    with pytest.raises(SparsityError, match=r"shape \(6, 8\), the weight \(8, 6\)"):
        train_(perceptron(), split_of(), SGD, masks={"0.weight": torch.ones(6, 8).bool()})


def test_no_epochs_only_masks():
    model, masks = perceptron(), {"0.bias": torch.zeros(8, dtype=torch.bool)}
    assert train_(model, split_of(), replace(SGD, epochs=0), masks=masks) == []
    assert (model[0].bias == 0).all()
    assert (model[2].bias != 0).all()
    assert not model.training


# Seeds


def test_the_seed_alone_decides():
    start = nn.Sequential(perceptron(), nn.Dropout(0.5))

    def trained(seed, world):
        torch.manual_seed(world)
        model = copy.deepcopy(start)
        train_(model, split_of(), SGD, seed=seed)
        return model

    assert same(trained(0, world=1), trained(0, world=2))
    assert not same(trained(0, world=1), trained(1, world=1))


def test_the_worlds_randomness_is_left_alone():
    model = nn.Sequential(perceptron(), nn.Dropout(0.5))
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    train_(model, split_of(), SGD)
    assert torch.equal(torch.rand(3), expected)


# Batches of one, frozen parameters, divergence


def test_a_single_sample_left_over_joins_the_batch_before():
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    train_(model, split_of(17), replace(SGD, epochs=2))
    assert seen == [8, 9, 8, 9]


@pytest.mark.parametrize(("samples", "size"), [(5, 1), (1, 8)])
def test_batch_norm_cannot_train_on_one_sample(samples, size):
    training, split = replace(SGD, batch_size=size), split_of(samples)
    model = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    with pytest.raises(SparsityError, match="needs two samples a batch"):
        train_(model, split, training)
    assert len(train_(perceptron(), split, training)) == 3


def test_frozen_parameters_stay():
    model = perceptron()
    model[0].requires_grad_(False)
    before = copy.deepcopy(model)
    train_(model, split_of(), SGD)
    assert same(model[0], before[0])
    assert not same(model[2], before[2])
    with pytest.raises(SparsityError, match="every parameter is frozen"):
        train_(model.requires_grad_(False), split_of(), SGD)


def test_weights_that_hold_nan_are_no_matter_of_the_rate():
    model = perceptron()
    model[0].weight.data[0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"became nan in epoch 1, step 1; .* model's weights"):
        train_(model, split_of(), SGD)


def test_divergence_is_named_and_leaves_eval_mode():
    split = split_of()
    broken = Split(split.inputs * 1e30, split.targets)
    model = perceptron()
    with pytest.raises(NonFiniteError, match=r"in epoch 1, step (1; nothing|2; lower the rate)"):
        train_(model, broken, replace(SGD, rate=1e10))
    assert not model.training
