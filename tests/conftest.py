"""What many tests need: small models whose every number a person can follow."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

VECTORS = Path(__file__).parent / "vectors.json"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, all browser tests go to one process: they share a server."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class OneBrowser(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "browser" if file.startswith("tests/browser/") else file

    return OneBrowser(config, log)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def vectors() -> dict:
    """Worked examples from the papers' definitions, made with an independent script."""
    return json.loads(VECTORS.read_text())


class SmallConv(nn.Module):
    """Two convolutions (the second grouped) and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2)
        self.fc = nn.Linear(8 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        return self.fc(self.conv2(x).flatten(1))


@pytest.fixture
def small_conv() -> SmallConv:
    torch.manual_seed(0)
    return SmallConv().eval()


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    """Two batches of unequal size, (N, 3, 6, 6)."""
    make = torch.Generator().manual_seed(1)
    inputs = torch.randn(10, 3, 6, 6, generator=make)
    targets = torch.randint(5, (10,), generator=make)
    return [(inputs[:7], targets[:7]), (inputs[7:], targets[7:])]


def data_folder() -> Path | None:
    """Where large real data lies, for the tests that use it."""
    folder = os.environ.get("SPARSITY_DATA")
    return Path(folder) if folder else None
