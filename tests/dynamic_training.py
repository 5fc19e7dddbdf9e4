"""A short training whose masks move."""

import torch
from torch import nn

from sparsity_core.allocations import Uniform
from sparsity_core.data import Split
from sparsity_core.dynamic.budgets import budgets_of
from sparsity_core.dynamic.course import MovingCourse
from sparsity_core.recipe import Training

# 8 batches an epoch, 48 steps.
TRAINING = Training(epochs=6, rate=0.05, weight_decay=1e-3, batch_size=8)


def split_of(count=64):
    make = torch.Generator().manual_seed(5)
    inputs = torch.randn(count, 8, generator=make)
    return Split(inputs, inputs[:, :3].argmax(1), "some train")


def model_of():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 4)
    )


def course_of(rule, model=None, sparsity=None, training=TRAINING, seed=0, **options):
    model = model or model_of()
    sparsity = rule.fixed_sparsity or 0.5 if sparsity is None else sparsity
    kept = budgets_of(model, rule, Uniform(), sparsity).kept
    return MovingCourse(model, split_of(), training, rule, kept, seed=seed, **options)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def living(course):
    return sum(int(mask.sum()) for mask in course.live.values())
