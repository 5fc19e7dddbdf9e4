"""What a ticket begins with: untrained models, corrupted data, the step of the early stop."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from sample_models.initial import glorot_normal_
from sample_models.mlp import MLP
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.task import ACCURACY, Task
from sparsity_core.tickets.corrupt import corrupted
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.tickets.trial import start_of
from sparsity_core.tickets.watched import Watched, train_watched_
from tests.ticket_plan import TRAINING, _own_files, plan_of, same, task

__all__ = ["_own_files", "task"]


# Untrained models


def test_fresh_models_are_drawn_by_seed(task):
    trained = {k: v.clone() for k, v in task.model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, again, other = (fresh_model(task, s).state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.rand(2), expected)
    assert same(one, again)
    assert not same(one, other)
    assert same(trained, task.model.state_dict())
    torch.manual_seed(0)
    assert same(one, MLP(64).state_dict())


def task_of(model):
    split = Split(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))
    return Task("some", model.eval(), split, split, split)


def test_without_a_builder_every_module_draws_its_own():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    model(torch.randn(10, 6))
    found = fresh_model(task_of(model), 1)
    assert not torch.equal(found[0].weight, model[0].weight)
    assert found[1].running_mean.tolist() == [0] * 4
    assert model[1].running_mean.abs().sum() > 0

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(SparsityError, match=r"1\.scale cannot be drawn again: Own has no reset"):
        fresh_model(task_of(nn.Sequential(nn.Linear(6, 3), Own())), 0)


def test_the_papers_first_weights():
    torch.manual_seed(0)
    model = glorot_normal_(MLP(784))
    for layer in (model.fc1, model.fc2):
        expected = math.sqrt(2 / sum(layer.weight.shape))
        assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.02)
        assert not layer.bias.any()


def test_corrupted_data_has_the_same_values_and_labels_elsewhere(task):
    found = corrupted(task.train, 3)
    assert torch.equal(
        found.inputs.flatten(1).sort().values, task.train.inputs.flatten(1).sort().values
    )
    assert torch.equal(found.targets.sort().values, task.train.targets.sort().values)
    assert float((found.targets == task.train.targets).float().mean()) < 0.2
    assert not torch.equal(found.inputs, task.train.inputs)
    # Each sample in its own order: no pixel keeps its statistics.
    assert float(found.inputs.mean(0).std()) < 0.2 * float(task.train.inputs.mean(0).std())
    assert torch.equal(found.inputs, corrupted(task.train, 3).inputs)
    assert not torch.equal(found.inputs, corrupted(task.train, 4).inputs)


# Early stop


def test_the_early_stop_is_the_first_of_the_lowest():
    seen = Watched(steps=[0, 10, 20, 30], losses=[2.0, 0.5, 0.7, 0.5])
    assert seen.early_stop == 10


def test_the_model_of_the_early_stop_is_kept(task):
    plan = plan_of(task, training=replace(TRAINING, rate=0.05, steps=120), every=20)
    course = start_of(task, plan, plan.points()[0])
    seen = train_watched_(course, task.validation, ACCURACY, 20)
    assert seen.steps == list(range(0, 121, 20))
    assert seen.train_losses[0] is None
    assert 0 < seen.early_stop < 120
    again = start_of(task, plan, plan.points()[0])
    again.advance_(seen.early_stop)
    assert same(seen.best, again.state())
