"""What training with every rule of moving masks promises."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.allocations import Uniform
from sparsity_core.dynamic import RULES
from sparsity_core.dynamic.budgets import budgets_of
from sparsity_core.dynamic.forward import ForwardRule
from sparsity_core.errors import NonFiniteError
from sparsity_core.recipe import Training
from tests.dynamic_training import course_of, living, model_of, same


def rule_of(kind, **options):
    """The rule, moving every fourth step."""
    if "every" in RULES.options_of(kind):
        options = {"every": 4} | options
    return RULES.make(kind, **options)


# Every rule


@pytest.mark.parametrize("kind", RULES.kinds())
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_counts_are_exact_and_what_is_dead_is_nothing(kind, optimizer):
    rule = rule_of(kind)
    training = Training(6, optimizer, rate=0.01, weight_decay=1e-3, batch_size=8)
    course = course_of(rule, training=training)
    losses = course.advance_()
    assert len(losses) == 48
    assert all(torch.isfinite(p).all() for p in course.model.parameters())
    budget = sum(course.kept.values())
    course.refresh_()
    if kind == "dense":
        assert living(course) == 144
    elif kind == "srigl":
        assert budget - 16 < living(course) <= budget
    elif not rule.learns_sparsity:
        assert living(course) == budget
    if not isinstance(rule, ForwardRule):
        for name, parameter in course.layers.items():
            dead = ~course.live[name]
            assert (parameter[dead] == 0).all()
            for key, value in course._optimizer.state[parameter].items():
                assert key == "step" or (value[dead] == 0).all()
    with course.as_used():
        for name, parameter in course.layers.items():
            assert (parameter[~course.live[name]] == 0).all()


@pytest.mark.parametrize("kind", RULES.kinds())
@pytest.mark.parametrize("stop", [0, 4, 13, 36])
def test_going_on_elsewhere_is_as_if_never_stopped(kind, stop):
    whole = course_of(rule_of(kind), seed=3)
    whole.advance_()
    part = course_of(rule_of(kind), seed=3)
    part.advance_(stop)
    file = io.BytesIO()
    torch.save(part.save(), file)
    part.advance_(stop + 5)  # what is saved does not change with it
    file.seek(0)
    other = course_of(rule_of(kind), seed=3)
    other.resume_(torch.load(file, weights_only=True))
    other.advance_()
    assert same(whole.state(), other.state())
    for course in (whole, other):
        course.refresh_()
    assert same(whole.live, other.live)
    assert same(whole.history.ever, other.history.ever)
    assert (whole.spent, whole.history.counts) == (other.spent, other.history.counts)


@pytest.mark.parametrize("kind", [k for k in RULES if RULES.make(k).fixed_sparsity is None])
@pytest.mark.parametrize("sparsity", [0.0, 1.0])
def test_budgets_of_all_and_of_nothing(kind, sparsity):
    course = course_of(rule_of(kind), sparsity=sparsity)
    course.advance_()
    if not course.rule.learns_sparsity and kind != "dense":
        assert living(course) == round(144 * (1 - sparsity))


@pytest.mark.parametrize("kind", RULES.kinds())
def test_layers_of_one_neuron(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 1), nn.Linear(1, 1), nn.Linear(1, 4))
    rule = rule_of(kind)
    course = course_of(rule, model)
    course.advance_()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    if kind in ("srigl-n:m", "sr-ste"):
        reasons = budgets_of(model, rule, Uniform(), 0.5).dense
        assert reasons["1.weight"] == "needs a multiple of 4 inputs, got 1"


class Tied(nn.Module):
    """One matrix, used twice."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(8, 8)
        self.two = nn.Linear(8, 8)
        self.two.weight = self.one.weight
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        return self.out(F.relu(self.two(F.relu(self.one(x)))))


@pytest.mark.parametrize("kind", RULES.kinds())
def test_tied_weights_have_one_mask(kind):
    torch.manual_seed(0)
    model = Tied()
    course = course_of(rule_of(kind), model)
    course.advance_()
    course.refresh_()
    assert list(course.live) == ["one.weight", "out.weight"]
    assert model.one.weight is model.two.weight
    with course.as_used():
        assert (model.two.weight[~course.live["one.weight"]] == 0).all()


@pytest.mark.parametrize("kind", [k for k in RULES if RULES.make(k).needs_gradients])
def test_a_gradient_that_is_nan_is_refused(kind):
    model = model_of()
    course = course_of(rule_of(kind), model)
    course.advance_(4)
    model[0].weight.register_hook(lambda gradient: gradient * torch.nan)
    before = copy.deepcopy(course.live)
    with pytest.raises(NonFiniteError, match=r"0.weight: .* gradients are NaN"):
        course.advance_(5)
    assert same(before, course.live)
