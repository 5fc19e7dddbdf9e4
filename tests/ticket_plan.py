"""What tests of lottery tickets share: a short plan on digits, and how its numbers are compared."""

from dataclasses import asdict

import pytest
import torch

from sparsity_core.recipe import Training
from sparsity_core.task import load_task
from sparsity_core.tickets.plan import plan_tickets
from sparsity_core.tickets.rule import Rule

TRAINING = Training(steps=30, optimizer="adam", rate=2e-3, batch_size=50, rate_schedule="constant")


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


@pytest.fixture(autouse=True)
def _own_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path))


def plan_of(task, **options):
    usual = {"training": TRAINING, "rounds": 2, "rule": Rule(0.5), "every": 10}
    return plan_tickets(task, **usual | options)


def numbers(row):
    return asdict(row) | {"seconds": 0}


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)
