"""A task for job tests: each measurement leaves a line in a log; it can be slow, held or deadly."""

import os
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsity_core.data import Split
from sparsity_core.task import CatalogEntry, Task

HELD = 600.0  # seconds: no test waits as long


class Logged(nn.Module):
    """A small model whose forward pass on the evaluation samples is slow and leaves a trace."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 37 and (self.fc1.weight == 0).any() | (self.fc2.weight == 0).any():
            file = Path(os.environ["EXECUTIONS"])
            begun = len(file.read_text().splitlines()) if file.exists() else 0
            with file.open("a") as log:
                log.write(
                    f"{int((self.fc1.weight == 0).sum())} {int((self.fc2.weight == 0).sum())}\n"
                )
            if begun >= int(os.environ.get("HELD_AFTER", str(10**9))):
                time.sleep(HELD)
            time.sleep(float(os.environ.get("SECONDS_A_POINT", "0")))
            if (self.fc1.weight == 0).sum() == int(os.environ.get("DEADLY_ZEROS", "-1")):
                os.kill(os.getpid(), 9)
        return self.fc2(self.relu(self.fc1(x)))


def task() -> Task:
    torch.manual_seed(0)
    make = torch.Generator().manual_seed(0)

    def split(samples: int) -> Split:
        inputs = torch.randn(samples, 6, generator=make)
        return Split(inputs, torch.randint(3, (samples,), generator=make))

    return Task("tests.count_executions:task", Logged().eval(), split(20), split(37), split(11))


CATALOG = {
    "held": CatalogEntry(
        "held",
        "A job on it is certain to be under way after HELD_AFTER points.",
        lambda _seed: replace(task(), name="held"),
        lambda: None,
        lambda: None,
    )
}
