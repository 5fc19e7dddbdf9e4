"""Literal weights, masks and gradients for rules that move masks."""

import json
from pathlib import Path

import pytest
import torch

from sparsity_core.dynamic import Clock, State

START = Clock(1, 1_000_000, 10)  # where a cosine has not fallen yet


@pytest.fixture(scope="module")
def vectors():
    return json.loads((Path(__file__).parent / "vectors_dynamic.json").read_text())


def t(*values):
    return torch.tensor(values)


def mask(*values):
    return torch.tensor(values, dtype=torch.bool)


def state_of(weights, masks, gradients=None, *, clock=START, kept=None, last="", averages=None):
    wrap = {"layer": weights * masks}
    return State(
        clock=clock,
        weights=wrap,
        gradients={} if gradients is None else {"layer": gradients},
        masks={"layer": masks},
        kept={"layer": int(masks.sum()) if kept is None else kept},
        last=last,
        averages={} if averages is None else {"layer": averages},
    )


def some(shape, seed, share=None):
    make = torch.Generator().manual_seed(seed)
    if share is None:
        # Few values, so that ties are frequent.
        return torch.randint(-4, 5, shape, generator=make) / 4.0
    return torch.rand(shape, generator=make) < share
