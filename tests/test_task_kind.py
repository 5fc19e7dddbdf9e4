"""Which loss and metric a model and its targets get, and what these are by the definition."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparsity_core import losses, metrics
from sparsity_core.errors import SparsityError
from sparsity_core.intake.task_kind import (
    CLASS_A_PIXEL,
    CLASSES,
    LOGITS,
    NUMBERS,
    PROBABILITIES,
    TOKENS,
    as_kind,
    task_kind,
)
from sparsity_core.recipe import Recipe, Training
from sparsity_core.rounds import run
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import task_of

SIGNED, SHARES = torch.tensor([-2.0, 3.0]), torch.tensor([0.2, 0.9])


@pytest.mark.parametrize(
    ("outputs", "targets", "kind"),
    [
        (SIGNED.view(2, 1), torch.tensor([0, 1]), LOGITS),
        (SIGNED, torch.tensor([[0.0], [1.0]]), LOGITS),
        (SHARES.view(2, 1), torch.tensor([True, False]), PROBABILITIES),
        (SIGNED.repeat(2, 2), torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]), LOGITS),
        (SIGNED.repeat(2, 2), torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0]]), CLASSES),
        (SIGNED.repeat(2, 2), torch.tensor([0, 1]), CLASSES),
        (torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4).long(), CLASS_A_PIXEL),
        (torch.randn(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), LOGITS),
        (torch.randn(2, 5, 9), torch.ones(2, 5).long(), TOKENS),
        (SIGNED.view(2, 1), torch.tensor([0.5, 1.0]), NUMBERS),
    ],
)
def test_kinds_by_eye(outputs, targets, kind):
    assert task_kind(outputs, [targets, targets]) is kind


def test_who_asks_for_a_metric_of_numbers_gets_them():
    targets = torch.tensor([[0.0], [1.0]])
    assert task_kind(SIGNED, [targets], "mse") is NUMBERS
    assert task_kind(SIGNED, [targets], "loss") is LOGITS


def test_what_is_of_no_kind_says_what_there_is():
    with pytest.raises(SparsityError, match="a class for each pixel"):
        task_kind(torch.randn(2, 4), [torch.tensor([[2, 3, 1], [1, 2, 3]])])
    with pytest.raises(SparsityError, match="val: label 5 is out of range for a model with 3 out"):
        as_kind(CLASS_A_PIXEL, "val", torch.tensor([[[0, 5]]]), 3)


def test_targets_become_what_the_losses_take():
    assert as_kind(CLASSES, "val", torch.tensor([[0, 1], [1, 0]]), 2).tolist() == [1, 0]
    assert as_kind(LOGITS, "val", torch.tensor([0, 1]), 1).tolist() == [0.0, 1.0]
    assert as_kind(CLASS_A_PIXEL, "val", torch.tensor([[[2, 255]]]), 3).tolist() == [[[2, -100]]]


def test_probabilities_are_there_from_a_half_on():
    found = metrics.LABELS_BY_PROBABILITY.per_sample(torch.tensor([0.4, 0.6]), torch.ones(2))
    assert found.tolist() == [0.0, 1.0]


def test_overlap_of_classes_that_the_target_has():
    best = F.one_hot(torch.tensor([[[0, 1], [1, 2]]]), 3).permute(0, 3, 1, 2).float()
    right = torch.tensor([[[0, 1], [1, 1]]])  # class 0 wholly, of class 1 two of three
    assert metrics.IOU.per_sample(best, right).tolist() == pytest.approx([(1 + 2 / 3) / 2])


def test_losses_are_torchs_means_over_a_sample():
    logits, there = torch.randn(5, 7), torch.randint(0, 2, (5, 7))
    for i, found in enumerate(losses.logit_cross_entropy(logits, there)):
        right = F.binary_cross_entropy_with_logits(logits[i], there[i].float())
        torch.testing.assert_close(found, right)
    torch.testing.assert_close(
        losses.probability_cross_entropy(logits.sigmoid(), there),
        losses.logit_cross_entropy(logits, there),
    )
    scores, classes = torch.randn(5, 3, 4, 4), torch.randint(0, 3, (5, 4, 4))
    classes[:, 0, :2] = losses.IGNORED
    for i, found in enumerate(losses.pixel_cross_entropy(scores, classes)):
        torch.testing.assert_close(found, F.cross_entropy(scores[i][None], classes[i][None]))
    with pytest.raises(SparsityError, match="same size"):
        losses.logit_cross_entropy(torch.randn(5, 3), torch.zeros(5))
    with pytest.raises(SparsityError, match="a class for each pixel"):
        losses.pixel_cross_entropy(scores, classes[:, :2])


def separable(*shape):
    """Inputs, and whether the first of their channels is above zero."""
    inputs = torch.randn(120, 6, *shape, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs[:, 0] > 0).long()


def of_one_logit():
    inputs, there = separable()
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)), (inputs, there)


def of_pixels():
    inputs, there = separable(4, 4)
    return nn.Sequential(nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)), (inputs, there)


@pytest.mark.parametrize(
    ("make", "metric"), [(of_one_logit, "label-accuracy"), (of_pixels, "pixel-accuracy")]
)
def test_such_tasks_are_trained_pruned_and_swept_like_others(make, metric):
    torch.manual_seed(0)
    task = task_of(*make())
    assert task.metric.name == metric
    recipe = Recipe(0.2, training=Training(epochs=60, optimizer="adam", rate=0.05))
    *_, last = run(task, recipe, score_samples=16)
    assert last.losses[-1] < 0.5 * last.losses[0]
    found = {}
    for engine in ("reference", "exact"):
        plan = plan_sweep(task, sparsities=[0.5, 0.9], engine=engine, score_samples=16)
        found[engine] = [(row.layer, row.value, row.loss) for row in plan.run(task, plan.points())]
    assert found["exact"] == found["reference"]
