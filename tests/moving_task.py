"""A tiny task, and plans of trainings with moving masks on it."""

import pytest
import torch
from torch import nn

from sparsity_core.data import Split
from sparsity_core.dynamic import RigL
from sparsity_core.dynamic.planning import plan_moving
from sparsity_core.recipe import Training
from sparsity_core.task import Task

TRAINING = Training(steps=30, rate=0.1, batch_size=16, weight_decay=1e-3)
FRESH = lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))  # noqa: E731


def make_task():
    """A small problem; also what the killed process loads."""
    make = torch.Generator().manual_seed(5)

    def split(count):
        inputs = torch.randn(count, 8, generator=make)
        return Split(inputs, inputs[:, :4].argmax(1))

    torch.manual_seed(0)
    model = FRESH().eval()
    return Task("tests.moving_task:make_task", model, split(96), split(40), split(50), fresh=FRESH)


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path))
    return make_task()


def plan_of(task, rules=None, **options):
    rules = rules or [RigL(every=3)]
    options = {"training": TRAINING, "sparsities": [0.75], "every": 7, "device": "cpu"} | options
    return plan_moving(task, rules=rules, **options)
