"""What a classifier does beyond its accuracy: by eye, and against the definitions written out."""

import math

import pytest
import torch
from torch import nn

from sparsity_core.behaviour import (
    Answers,
    Bin,
    answers_of,
    calibration_error,
    class_accuracies,
    flips,
    packed,
    reliability,
    unpacked,
)
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError


def test_flips_by_eye():
    targets = torch.tensor([0, 0, 1, 1, 2, 2])
    first = torch.tensor([0, 0, 1, 0, 0, 1])
    second = torch.tensor([0, 1, 1, 1, 1, 1])
    found = flips(first, second, targets)
    assert (found.lost, found.gained, found.other_errors) == (1, 1, 1)
    assert found.changed == 0.5
    assert flips(first, first, targets).changed == 0
    with pytest.raises(SparsityError, match="same samples"):
        flips(first, second[:4], targets)


def test_class_accuracies_by_eye():
    targets = torch.tensor([0, 0, 2, 2, 2, 2])
    assert class_accuracies(torch.tensor([0, 1, 2, 2, 2, 0]), targets) == [0.5, None, 0.75]


def test_calibration_by_eye():
    # In (0.5, 1]: sure to 0.9 and 0.7, right once: gap 0.3. In (0, 0.5]: 0.5, right: gap 0.5.
    answers = Answers(torch.tensor([0, 0, 1]), torch.tensor([0.9, 0.7, 0.5]))
    bins = reliability(answers, torch.tensor([0, 1, 1]), bins=2)
    assert [each.samples for each in bins] == [1, 2]
    assert bins[1].confidence == pytest.approx(0.8)
    assert bins[1].accuracy == 0.5
    assert calibration_error(bins) == pytest.approx((2 * 0.3 + 1 * 0.5) / 3)


def test_calibration_is_the_slow_sum():
    make = torch.Generator().manual_seed(0)
    sure = torch.rand(200, generator=make)
    predictions = torch.randint(3, (200,), generator=make)
    targets = torch.randint(3, (200,), generator=make)
    bins = reliability(Answers(predictions, sure), targets)
    expected = 0.0
    for b in range(15):
        own = [i for i in range(200) if b / 15 < float(sure[i].double()) <= (b + 1) / 15]
        if own:
            right = sum(float(predictions[i] == targets[i]) for i in own)
            expected += abs(right - math.fsum(float(sure[i]) for i in own)) / 200
        else:
            assert bins[b] == Bin(0, None, None)
    assert calibration_error(bins) == pytest.approx(expected)


def test_answers_are_the_softmax_of_a_model():
    model = nn.Linear(4, 3).eval()
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    found = answers_of(model, Split(inputs, torch.zeros(5).long(), "test"), batch_size=2)
    with torch.no_grad():
        shares = model(inputs).exp() / model(inputs).exp().sum(1, keepdim=True)
    assert torch.equal(found.predictions, shares.argmax(1))
    assert torch.allclose(found.confidences, shares.amax(1))


def test_predictions_travel_as_text():
    predictions = torch.tensor([0, 9, 9, 3, 999])
    text = packed(predictions)
    assert isinstance(text, str)
    assert torch.equal(unpacked(text), predictions)
    assert len(packed(torch.zeros(10_000).long())) < 100
