"""Metrics by hand, of one's own too; which way is better; losses that say nothing."""

import math

import pytest
import torch
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.metrics import METRICS, metric_of
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import task_of
from tests.own_layers import IMAGES, TOKENS, Branches, Tied, classes

# Metrics, by hand


def value(name, outputs, targets):
    found = metric_of(name, torch.tensor(targets))
    return found.per_sample(torch.tensor(outputs), torch.tensor(targets)).tolist()


LOG2 = math.log(2)


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "expected"),
    [
        ("accuracy", [[1.0, 2.0], [2.0, 1.0]], [1, 1], [1, 0]),
        ("top-1", [[1.0, 2.0]], [0], [0]),
        ("top-5", [[6.0, 5, 4, 3, 2, 1], [6.0, 5, 4, 3, 2, 1]], [4, 5], [1, 0]),
        ("loss", [[0.0, 0.0]], [1], [LOG2]),
        ("mse", [[1.0], [5.0]], [1.0, 2.0], [0, 9]),
        ("mae", [[1.0, 0.0]], [[1.0, 3.0]], [1.5]),
        ("r2", [[1.0], [5.0]], [1.0, 3.0], [1, -3]),  # 1 - 0/1 and 1 - 4/1
        ("perplexity", [[[0.0, 0.0], [0.0, 0.0]]], [[1, -100]], [LOG2]),
        ("agreement", [[1.0, 2.0], [2.0, 1.0]], [[3.0, 4.0], [3.0, 4.0]], [1, 0]),
        ("kl", [[0.0, 0.0]], [[0.0, 0.0]], [0]),
        ("kl", [[0.0, 0.0]], [[0.0, -40.0]], [LOG2]),
        ("cosine", [[1.0, 0.0], [1.0, 1.0]], [[0.0, 2.0], [3.0, 3.0]], [0, 1]),
        ("label-accuracy", [[1.0, -1.0], [2.0, 3.0]], [[1.0, 0.0], [0.0, 1.0]], [1, 0.5]),
        # Two classes, three pixels and one without a class; the third is taken for a 1.
        ("pixel-accuracy", [[[1.0, 0, 0, 0], [0, 1.0, 1.0, 1.0]]], [[0, 1, 0, -100]], [2 / 3]),
        ("iou", [[[1.0, 0, 0, 0], [0, 1.0, 1.0, 1.0]]], [[0, 1, 0, -100]], [1 / 2]),
    ],
)
def test_metrics_are_what_they_are_called(name, outputs, targets, expected):
    assert value(name, outputs, targets) == pytest.approx(expected, abs=1e-6)


def test_a_detector_is_told_to_return_one_tensor():
    class Detector(nn.Module):
        def forward(self, x):
            return [{"boxes": image.mean((1, 2))} for image in x]

    with pytest.raises(SparsityError, match="returns a list of dict and no tensor"):
        task_of(Detector(), torch.zeros(4, 1, 2, 2))


def test_every_metric_has_a_case():
    cases = test_metrics_are_what_they_are_called.pytestmark[0].args[1]
    assert set(METRICS) <= {name for name, *_ in cases}


class Constant(nn.Module):
    """Says `a` for every sample; emptied, it says nothing."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 1, bias=False)
        nn.init.constant_(self.fc.weight, 0.5)

    def forward(self, x):
        return self.fc(x)


def test_a_drop_is_positive_when_it_hurts_also_where_lower_is_better():
    task = task_of(Constant(), (torch.ones(30, 2), torch.ones(30)), metric="mse")
    plan = plan_sweep(task, sparsities=[1])
    (row,) = plan.run(task, plan.points())
    assert (row.dense_value, row.value, row.drop) == (0, 1, 1)


def test_perplexity_is_the_exponential_of_the_mean_and_so_are_its_limits():
    torch.manual_seed(0)
    task = task_of(Tied(), (TOKENS, TOKENS.roll(-1, 1)))
    plan = plan_sweep(task, sparsities=[0.9], layers=["mix"])
    (row,) = plan.run(task, plan.points())
    assert row.metric == "perplexity"
    assert row.value == pytest.approx(math.exp(row.loss), rel=1e-5)
    assert row.drop == pytest.approx(row.value - row.dense_value)
    assert row.drop_low < row.drop < row.drop_high


def test_a_metric_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_metric.py").write_text(
        "def error(outputs, targets):\n    return (outputs.argmax(1) != targets).float()\n"
        "error.higher_is_better = False\n"
        "def wrong(outputs, targets):\n    return outputs.mean()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(0)
    task = task_of(Branches(), (IMAGES, classes(5)), metric="my_metric:error")
    plan = plan_sweep(task, sparsities=[0.9])
    assert {row.status for row in plan.run(task, plan.points())} == {"ok"}
    with pytest.raises(SparsityError, match=r"gave \(\) for .* one number a sample"):
        task_of(Branches(), (IMAGES, classes(5)), metric="my_metric:wrong")
    with pytest.raises(SparsityError, match="could not be imported"):
        task_of(Branches(), (IMAGES, classes(5)), metric="my_metric:absent")


def test_a_flat_loss_is_said_and_not_scored_by():
    task = task_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), IMAGES, metric="cosine")
    plan = plan_sweep(task, scorers=["taylor"], sparsities=[0.5])
    (row,) = plan.run(task, plan.points())
    assert row.status == "failed"
    assert "no gradient to score by; choose a scorer without one" in row.message


def test_without_labels_gradients_come_from_the_dense_answers():
    torch.manual_seed(0)
    task = task_of(Branches(), IMAGES)
    assert task.metric.name == "agreement"
    plan = plan_sweep(task, scorers=["taylor"], sparsities=[0.5])
    rows = list(plan.run(task, plan.points()))
    assert {row.status for row in rows} == {"ok"}
    assert {row.dense_value for row in rows} == {1}
