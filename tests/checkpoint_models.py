"""A small model, and a file that no checkpoint may make when it is read."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

BURNT = Path("/tmp/intake-burnt")


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), fc=nn.Linear(4, 2))
    ).eval()


def same(a, b):
    other = b.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in a.state_dict().items())


class Config:
    """Stands for a class that only the author's machine has."""

    def __init__(self):
        self.depth = 3


@pytest.fixture(autouse=True)
def _nothing_was_executed():
    BURNT.unlink(missing_ok=True)
    yield
    assert not BURNT.exists()


# Wrapping, prefixes, types

TRAINED = small(1)
STATE = TRAINED.state_dict()
