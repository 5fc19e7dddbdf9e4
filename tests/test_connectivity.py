"""Linear mode connectivity: the line between two networks, and its barrier."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sparsity_core.data import Split
from sparsity_core.recipe import Training
from sparsity_core.task import load_task
from sparsity_core.tickets.connectivity import Line, between, line_between
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.train import evaluate
from tests.ticket_plan import _own_files, plan_of, same, task

__all__ = ["_own_files", "task"]


# Connectivity


def test_the_barrier_by_eye():
    # Ends 0.9 and 0.8, the worst between them 0.75: 0.85 - 0.75.
    assert Line((0.9, 0.75, 0.8)).barrier == pytest.approx(0.1)
    assert not Line((0.9, 0.75, 0.8)).stable
    assert Line((0.9, 0.84, 0.8)).barrier == pytest.approx(0.05)  # at an end
    assert Line((0.9, 0.889, 0.9)).stable
    assert Line((1.0, 3.0, 2.0), higher_is_better=False).barrier == pytest.approx(1.5)


def test_the_line_goes_straight_from_one_to_the_other(task):
    one, other = (fresh_model(task, s).state_dict() for s in (0, 1))
    one["count"] = other["count"] = torch.tensor(3)
    assert same(between(one, other, 0.0), one)
    assert same(between(one, other, 1.0), other)
    quarter = between(one, other, 0.25)
    assert torch.allclose(quarter["fc1.bias"], 0.75 * one["fc1.bias"] + 0.25 * other["fc1.bias"])


def test_with_batch_norm_the_line_is_measured_with_new_statistics_too():
    task = load_task("digits-resnet")
    small = replace(
        task,
        train=task.train.take(100),
        validation=task.validation.take(20),
        test=task.test.take(20),
    )
    training = Training(steps=4, rate=0.05, batch_size=50)
    plan = plan_of(small, training=training, rounds=0, arms=["other-order"])
    ticket, row = plan.run(small, plan.points())
    assert (row.status, ticket.barrier_recalibrated) == ("ok", None)
    assert row.barrier_recalibrated is not None


def test_what_mends_the_mixed_states_does_so_before_the_look():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    one, other = model.state_dict(), nn.Linear(3, 2).state_dict()
    split = Split(torch.randn(5, 3), torch.tensor([1, 1, 1, 1, 0]))
    seen = []

    def always_the_second(walker):
        assert torch.equal(walker.weight, between(one, other, len(seen) / 3)["weight"])
        seen.append(walker)
        nn.init.zeros_(walker.weight)
        walker.bias.data = torch.tensor([0.0, 1.0])

    line = line_between(
        model, one, other, lambda m: evaluate(m, split), points=4, mend_=always_the_second
    )
    assert line.values == pytest.approx((0.8,) * 4)
    assert model not in seen
    assert torch.equal(model.weight, one["weight"])


def test_far_apart_there_is_a_barrier(task):
    # Two trained networks whose hidden units stand in another order: alike, and far apart.
    model = task.model
    state = model.state_dict()
    turned = {k: v.clone() for k, v in state.items()}
    make = torch.Generator().manual_seed(0)
    for one, next_one, units in (("fc1", "fc2", 300), ("fc2", "fc3", 100)):
        order = torch.randperm(units, generator=make)
        turned[f"{one}.weight"] = turned[f"{one}.weight"][order]
        turned[f"{one}.bias"] = turned[f"{one}.bias"][order]
        turned[f"{next_one}.weight"] = turned[f"{next_one}.weight"][:, order]

    def look(walker):
        return evaluate(walker, task.test)

    assert line_between(model, state, state, look).barrier == 0
    found = line_between(model, state, turned, look, points=5)
    assert found.values[0] == found.values[-1]
    assert not found.stable
