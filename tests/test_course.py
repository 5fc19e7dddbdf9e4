"""A training that stops anywhere, is saved, goes on: by hand, against torch, bit for bit."""

import copy
import io
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core.course import Course, Place
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.rates import rate_at
from sparsity_core.recipe import OPTIMIZERS, RATE_SCHEDULES, Recipe, Training
from sparsity_core.train import train_

BASE = Training(epochs=3, rate=0.1, batch_size=8)


def split_of(count=30):
    make = torch.Generator().manual_seed(5)
    inputs = torch.randn(count, 6, generator=make)
    return Split(inputs, inputs[:, :3].argmax(1), "some train")


def model_of():
    """Batch normalisation and dropout: both remember."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
    )


def masks_of(share=0.5):
    make = torch.Generator().manual_seed(3)
    return {
        "0.weight": torch.rand(8, 6, generator=make) < share,
        "4.weight": torch.rand(3, 8, generator=make) < share,
    }


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


# By hand


def half_square(outputs, targets):
    return (outputs[:, 0] - targets).square() / 2


def test_two_steps_with_momentum_and_a_mask_by_hand():
    # Loss (w.x - y)^2 / 2, x = (1, 1, 1), y = 0, w = (1, 2, 4), the 4 pruned, rate 0.1, momentum
    # 0.5. Step 1: gradient 3 of each, momentum 3, w = (0.7, 1.7). Step 2: gradient 2.4, momentum
    # 0.5 x 3 + 2.4 = 3.9, w = (0.31, 1.31).
    model = nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 2.0, 4.0]])
    split = Split(torch.ones(1, 3), torch.zeros(1))
    training = Training(2, rate=0.1, momentum=0.5, batch_size=1, rate_schedule="constant")
    mask = torch.tensor([[True, True, False]])
    losses = train_(model, split, training, loss=half_square, masks={"weight": mask})
    assert losses == pytest.approx([4.5, 2.88])
    assert model.weight.tolist() == [[pytest.approx(0.31), pytest.approx(1.31), 0.0]]


def test_clipping_sees_masked_gradients_only():
    # The gradient is (3, 3) after masking, its norm 4.243, and is shortened to 1.
    model = nn.Linear(3, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 2.0, 4.0]])
    split = Split(torch.ones(1, 3), torch.zeros(1))
    training = Training(1, rate=1.0, momentum=0.0, batch_size=1, clip=1.0)
    mask = {"weight": torch.tensor([[True, True, False]])}
    train_(model, split, training, loss=half_square, masks=mask)
    expected = [1 - 0.5**0.5, 2 - 0.5**0.5]
    assert model.weight[0, :2].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_gradient_that_is_nan_where_pruned_harms_nothing():
    model, masks = model_of(), {"0.weight": torch.zeros(8, 6, dtype=torch.bool)}
    model[0].weight.register_hook(lambda gradient: gradient * torch.nan)
    train_(model, split_of(), BASE, masks=masks)
    assert (model[0].weight == 0).all()
    assert torch.isfinite(model[4].weight).all()


# Rates


@pytest.mark.parametrize("steps", [10, 37, 1000])
def test_rates_are_those_of_torch(steps):
    schedules = {
        "constant": lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0),
        "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, steps),
        "step": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [4, 8], 0.2),
        "one-cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 0.4, total_steps=steps, cycle_momentum=False
        ),
    }
    assert set(schedules) == set(RATE_SCHEDULES)
    for kind, make in schedules.items():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.4)
        schedule = make(optimizer)
        training = Training(
            rate=0.4, rate_schedule=kind, drops=(4 / steps, 8 / steps), drop_factor=0.2
        )
        for step in range(steps):
            expected = optimizer.param_groups[0]["lr"]
            assert rate_at(training, step, steps) == pytest.approx(expected, rel=1e-6), (kind, step)
            optimizer.step()
            if step < steps - 1:
                schedule.step()


def test_rates_by_eye():
    step = Training(rate=1.0, rate_schedule="step", drops=(0.5, 0.75))
    assert [rate_at(step, s, 4) for s in range(4)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = Training(rate=2.0, rate_schedule="cosine")
    assert [rate_at(cosine, s, 4) for s in (0, 2)] == pytest.approx([2, 1])
    for steps in (1, 2, 3):
        for kind in RATE_SCHEDULES:
            assert rate_at(replace(step, rate_schedule=kind), steps - 1, steps) <= 1


# Stopping and going on


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", RATE_SCHEDULES)
@pytest.mark.parametrize("stop", [0, 1, 4, 7, 11])
def test_going_on_elsewhere_is_as_if_never_stopped(optimizer, schedule, stop):
    training = replace(BASE, optimizer=optimizer, rate_schedule=schedule, weight_decay=0.01)
    whole = Course(model_of(), split_of(), training, masks=masks_of(), seed=4)
    losses = whole.advance_()
    first = Course(model_of(), split_of(), training, masks=masks_of(), seed=4)
    begun = first.advance_(stop)
    file = io.BytesIO()
    torch.save(first.place().to_dict(), file)
    first.advance_()  # what was saved does not change
    file.seek(0)
    place = Place(**torch.load(file, weights_only=True))
    torch.manual_seed(99)  # neither model nor world are as they were
    second = Course(nn.Sequential(*model_of()), split_of(), training, masks=masks_of(), seed=4)
    torch.nn.init.normal_(second.model[0].weight)
    second.go_to_(place)
    assert second.step == stop
    assert begun + second.advance_() == losses
    assert same(whole.model.state_dict(), second.model.state_dict())
    assert same(whole.model.state_dict(), first.model.state_dict())


def test_going_back_takes_the_same_order_again():
    course = Course(model_of(), split_of(), BASE, seed=2)
    course.advance_(2)
    place = course.place()
    once = course.advance_()
    course.go_to_(place)
    assert course.advance_() == once


def test_another_order_from_the_same_place():
    first = Course(model_of(), split_of(), BASE, seed=2)
    first.advance_(4)
    place = first.place()
    others = [Course(model_of(), split_of(), BASE, seed=s) for s in (2, 3, 3)]
    for course in others:
        course.go_to_(place, same_order=False)
        assert same(course.model.state_dict(), place.model)
        course.advance_()
    found = [course.model.state_dict() for course in others]
    assert not same(found[0], found[1])
    assert same(found[1], found[2])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_masks_in_mid_course_clear_weights_and_momentum(optimizer):
    training = replace(BASE, optimizer=optimizer)
    course = Course(model_of(), split_of(), training)
    course.advance_(5)
    course.mask_(masks_of())
    for when in ("now", "later"):
        parameters = dict(course.model.named_parameters())
        names = [name for name, p in parameters.items() if p.requires_grad]
        states = course.place().optimizer["state"]
        for name, mask in course.masks.items():
            assert (parameters[name][~mask] == 0).all()
            moments = [
                value
                for value in states[names.index(name)].values()
                if isinstance(value, torch.Tensor) and value.shape == mask.shape
            ]
            assert len(moments) == (1 if optimizer in ("sgd", "nesterov") else 2)
            for moment in moments:
                assert (moment[~mask] == 0).all(), when
                assert (moment[mask] != 0).any()
        course.advance_()


def test_weights_in_another_layout_train_alike():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 3))
    make = torch.Generator().manual_seed(1)
    split = Split(torch.randn(32, 4, 6, 6, generator=make), torch.arange(32) % 3)
    masks = {"0.weight": torch.rand(8, 4, 3, 3, generator=make) < 0.5}
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for optimizer in OPTIMIZERS:
        training = replace(BASE, optimizer=optimizer, rate=0.01)
        for trained in (model, other):
            train_(trained, split, training, masks=masks)
            assert (trained[0].weight[~masks["0.weight"]] == 0).all()
        assert torch.allclose(model[0].weight, other[0].weight, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_of_another_type_train_under_masks_too(optimizer):
    split = Split(split_of().inputs.double(), split_of().targets)
    model = model_of().double()
    train_(model, split, replace(BASE, optimizer=optimizer), masks=masks_of())
    for name, mask in masks_of().items():
        weight = dict(model.named_parameters())[name]
        assert weight.dtype == torch.float64
        assert (weight[~mask] == 0).all()
        assert (weight[mask] != 0).all()


# Options


def test_label_smoothing_is_that_of_torch():
    split, model = split_of(8), nn.Linear(6, 3)
    training = replace(BASE, label_smoothing=0.2, steps=1)
    expected = F.cross_entropy(model(split.inputs), split.targets, label_smoothing=0.2).item()
    assert train_(model, split, training) == [pytest.approx(expected)]
    with pytest.raises(SparsityError, match="label_smoothing needs the cross-entropy"):
        train_(model, split, training, loss=half_square)


@pytest.mark.parametrize(("steps", "epochs"), [(0, 0), (3, 1), (4, 1), (9, 3)])
def test_steps_instead_of_epochs(steps, epochs):
    seen = []
    losses = train_(model_of(), split_of(), replace(BASE, steps=steps), on_epoch=seen.append)
    assert len(losses) == epochs
    assert [p.step for p in seen] == [min(4 * (i + 1), steps) for i in range(epochs)]
    if steps == 9:
        whole = Course(model_of(), split_of(), replace(BASE, steps=9)).advance_()
        assert losses[-1] == pytest.approx(whole[-1])


def test_half_precision_products_train_nearly_alike():
    trained = {}
    for precision in ("float32", "bfloat16"):
        model = nn.Linear(6, 3)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        trained[precision] = train_(model, split_of(), replace(BASE, precision=precision))
        assert model.weight.dtype == torch.float32
    assert trained["bfloat16"] == pytest.approx(trained["float32"], rel=0.02)
    assert trained["bfloat16"] != trained["float32"]


def test_new_options_leave_old_names_alone():
    # A literal from before these options: if it changes, stored results are orphaned.
    old = Recipe(0.5, training=Training(epochs=2, optimizer="adam"))
    assert old.identity()["training"] == {"epochs": 2, "optimizer": "adam"}
    assert old.digest == "b430d1727db55b36"
    full = Training(steps=7, rate_schedule="step", drops=(0.5,), label_smoothing=0.1)
    assert Training.from_dict(full.to_dict()) == full
    recipe = Recipe(0.5, training=full)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


@pytest.mark.parametrize(
    "options",
    [{"steps": -1}, {"label_smoothing": 1.0}, {"drops": (2.0,)}, {"precision": "float8"}],
)
def test_bad_options(options):
    with pytest.raises(SparsityError):
        Training(**options)
