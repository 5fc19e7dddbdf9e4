"""Training with moving masks: updates by hand, products counted, budgets."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.allocations import ERK, Uniform
from sparsity_core.data import Split
from sparsity_core.dynamic import RULES, Clock, Evolution, RigL, Static, TopKast
from sparsity_core.dynamic.average import follow_
from sparsity_core.dynamic.budgets import budgets_of
from sparsity_core.dynamic.course import MovingCourse, Products
from sparsity_core.dynamic.history import History
from sparsity_core.errors import SparsityError
from sparsity_core.recipe import Training
from sparsity_core.weights import sparsity_of
from tests.dynamic_training import TRAINING, course_of, living, model_of, same, split_of

# By hand


def half_square(outputs, targets):
    return (outputs[:, 0] - targets).square() / 2


def test_an_update_of_rigl_by_hand():
    # Loss (w.x)^2 / 2, x = (1, 2, 3), w = (1, 1, 0) with the third masked, rate 0.1, no momentum.
    # Step 1: output 3, gradient 3x = (3, 6, 9), w = (0.7, 0.4, 0). Step 2 is an update: output
    # 1.5, dense gradient (1.5, 3, 4.5); 0.4 dies, the third is born at 0, and no step is made.
    # Step 3: output 0.7, w = (0.63, 0, -0.21).
    model = nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 1.0, 0.0]])
    split = Split(torch.tensor([[1.0, 2.0, 3.0]]), torch.zeros(1))
    training = Training(4, rate=0.1, momentum=0.0, batch_size=1, rate_schedule="constant")
    rule = RigL(every=1, until=0.5, drop=1.0)  # half of two live at step 1 of 2
    course = MovingCourse(model, split, training, rule, {"weight": 2}, loss=half_square)
    course.live = {"weight": torch.tensor([[True, True, False]])}
    model.weight.data = torch.tensor([[1.0, 1.0, 0.0]])
    course.mask_(course.live)
    course.advance_(1)
    assert model.weight[0].tolist() == pytest.approx([0.7, 0.4, 0.0])
    course.advance_(2)
    assert model.weight[0].tolist() == pytest.approx([0.7, 0.0, 0.0])
    assert course.live["weight"].tolist() == [[True, False, True]]
    course.advance_(3)
    assert model.weight[0].tolist() == pytest.approx([0.63, 0.0, -0.21])


def test_newborn_weights_of_set_have_values_but_no_momentum():
    course = course_of(Evolution(every=4))
    course.advance_(4)
    before = copy.deepcopy(course.live)
    course._update_(course.clock)
    for name, parameter in course.layers.items():
        born = course.live[name] & ~before[name]
        assert born.any()
        assert (parameter[born] != 0).all()
        assert parameter[born].abs().max() < 1
        assert (course._optimizer.state[parameter]["momentum_buffer"][born] == 0).all()


def test_products_of_a_training():
    course = course_of(
        Static(), sparsity=0.75, products=Products({"0.weight": 2, "4.weight": 1}, 7)
    )
    live, dense = 7 + 2 * 24 + 12, 7 + 2 * 96 + 48
    assert course.dense_macs == dense
    course.advance_(3)
    assert course.spent == 3 * 8 * 3 * live
    rigl = course_of(RigL(every=3, until=1.0), sparsity=0.75)
    rigl.advance_(4)
    assert rigl.spent == 8 * (3 * 3 * 36 + 2 * 36 + 144)


def test_products_of_rigl_are_the_papers(vectors_dynamic):
    # The paper counts a period of dT steps and one update; here an update is one of dT.
    found = vectors_dynamic["rigl_train_flops"]
    rule, period = RigL(every=100, until=1.0), 101
    f_s, f_d = found["f_S"], found["f_D"]
    ordinary = rule.training_macs(f_s, f_d, Clock(1, 1000, 10))
    update = rule.training_macs(f_s, f_d, Clock(100, 1000, 10))
    assert (100 * ordinary + update) / period == pytest.approx(found["per_sample"])
    assert ordinary == pytest.approx(found["static"])
    momentum = RULES.make("sparse-momentum")
    assert momentum.training_macs(f_s, f_d, Clock(1, 9, 3)) == pytest.approx(found["snfs"])


@pytest.fixture(scope="module")
def vectors_dynamic():
    return json.loads((Path(__file__).parent / "vectors_dynamic.json").read_text())


def test_history_by_eye():
    first, second = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    history = History({"w": first})
    history.note_({"w": first}, {"w": second}, {"w": 1})
    history.note_({"w": second}, {"w": first}, {})
    assert history.take_() == {"born": 1, "died": 2, "returned": 1}
    assert history.take_() == {"born": 0, "died": 0, "returned": 0}
    assert history.explored == 1.0
    assert history.ablated == {"w": 1}


def test_growth_sees_the_gradient_of_dead_weights():
    torch.manual_seed(0)
    course = course_of(RigL(every=4), nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4)))
    course.advance_(4)
    model = copy.deepcopy(course.model)
    seen = []

    class Spy(RigL):
        def update(self, state):
            seen.append(state)
            return super().update(state)

    course.rule = Spy(every=4)
    indices = course._next_indices()
    course.advance_(5)
    split = split_of()
    F.cross_entropy(model(split.inputs[indices]), split.targets[indices]).backward()
    gradient = seen[0].gradients["0.weight"]
    assert torch.allclose(gradient, model[0].weight.grad, atol=1e-6)
    assert (gradient[~seen[0].masks["0.weight"]] != 0).any()


def test_top_kast_leaves_the_others_where_they_are():
    course = course_of(TopKast(every=4, reserve=0.5), sparsity=0.75)
    course.advance_(5)
    before, trained = course.state(), copy.deepcopy(course.trained)
    course.advance_(8)
    for name, parameter in course.layers.items():
        still = ~trained[name]
        assert int(still.sum()) == round(parameter.numel() * 0.625)
        assert torch.equal(parameter[still], before[name][still])
        assert (parameter[still] != 0).any()
        assert (parameter[trained[name]] != before[name][trained[name]]).all()


def test_learned_thresholds_are_trained_and_decay():
    course = course_of(RULES.make("str", initial=-1.0))
    course.advance_(1)
    values = [value.item() for value in course.learned.values()]
    assert all(value != -1.0 for value in values)
    course.advance_()
    course.refresh_()
    assert 0 < living(course) < 144


@pytest.mark.parametrize("kind", ["str", "autosparse"])
def test_more_weight_decay_learns_more_sparsity(kind):
    left = []
    for decay in (1e-4, 0.03, 0.1):
        course = course_of(RULES.make(kind), training=replace(TRAINING, weight_decay=decay))
        course.advance_()
        course.refresh_()
        left.append(living(course))
    assert 144 >= left[0] > left[1] > left[2] > 0


# Budgets, followers


def test_budgets_are_those_of_the_vectors(vectors_dynamic):
    model = nn.Sequential(nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10))
    for density, found in vectors_dynamic["erk_lenet_300_100"]["by_density"].items():
        kept = budgets_of(model, Static(), ERK(), 1 - float(density)).kept
        assert list(kept.values()) == pytest.approx(found["nnz"], abs=1)  # one of rounding
        assert sum(kept.values()) == round(266_200 * float(density))


def test_skipped_layers_are_outside_of_the_budget():
    found = budgets_of(model_of(), Static(), Uniform(), 0.75, skip=["last"])
    assert found.kept == {"0.weight": 24}
    assert found.dense == {"4.weight": "skipped"}
    with pytest.raises(SparsityError, match="no layer is left"):
        budgets_of(model_of(), Static(), Uniform(), 0.5, skip=["first", "last"])
    with pytest.raises(SparsityError, match=r"sparsity 0.5 and no other"):
        budgets_of(model_of(), RULES.make("sr-ste"), Uniform(), 0.9)


@pytest.mark.parametrize("keep", [0.0, 0.9])
def test_followers_have_the_masks(keep):
    course = course_of(RigL(every=4))
    follower = copy.deepcopy(course.model)
    course.advance_(4)
    for until in (9, 17):
        course.advance_(until)
        follow_(follower, course.model, course.live, keep)
        for name, value in follower.named_parameters():
            if name in course.live:
                zero = sparsity_of(value != 0)
                assert zero >= sparsity_of(course.live[name])
                assert (value[~course.live[name]] == 0).all()
    if keep == 0:
        assert same(follower.state_dict(), course.state())
