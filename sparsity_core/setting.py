"""What the points of a plan are measured on: which model, which samples, which device."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sparsity_core.data import Split
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError
from sparsity_core.machine import resolve_device
from sparsity_core.probe import Batch
from sparsity_core.task import Task

_SCORE_BATCH = 128


@dataclass(frozen=True)
class Setting:
    """Plain data that pins model and samples by their content."""

    model: str  # what `load_task` takes
    model_digest: str
    split: str  # the split that reports
    samples: int  # how many of it
    data_digest: str
    train_digest: str  # the split that scores
    score_samples: int
    metric: str
    device: str


def setting_of(
    task: Task,
    *,
    split: str = "validation",
    samples: int | None = None,
    score_samples: int = 512,
    device: str = "auto",
) -> Setting:
    """The setting of a task: `samples` of a split (all when None), `score_samples` of train."""
    available = len(task.split(split))
    for what, count in (("samples", samples), ("score samples", score_samples)):
        if count is not None and count < 1:
            raise SparsityError(f"{what} must be 1 or more, got {count}")
    if samples is not None and samples > available:
        raise SparsityError(f"{split} has {available} samples, asked for {samples}; ask for fewer")
    return Setting(
        model=task.name,
        model_digest=task.model_digest,
        split=split,
        samples=samples or available,
        data_digest=task.split(split).digest,
        train_digest=task.train.digest,
        score_samples=min(score_samples, len(task.train)),
        metric=task.metric.name,
        device=resolve_device(device),
    )


def check_setting(task: Task, setting: Setting) -> None:
    """Raise SparsityError when the task has another model or other data than the setting names."""
    found = setting_of(
        task,
        split=setting.split,
        samples=setting.samples,
        score_samples=setting.score_samples,
        device=setting.device,
    )
    parts = ("model_digest", "data_digest", "train_digest", "score_samples", "metric")
    check_same(setting.model, {part: getattr(found, part) for part in parts}, setting)


def check_same(model: str, now: Mapping[str, Any], planned: object) -> None:
    """Raise SparsityError when an attribute of a plan or setting is not as it is `now`."""
    for part, value in now.items():
        if getattr(planned, part) != value:
            raise SparsityError(
                f"{model}: the {part.replace('_', ' ')} has changed since the plan was made; "
                "plan again to measure the new state"
            )


class Planned(ABC):
    """What every plan says of itself; plans are frozen dataclasses with a `setting`."""

    setting: Setting

    @property
    def model(self) -> str:
        """What `load_task` takes."""
        return self.setting.model

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self.setting.device

    @property
    def digest(self) -> str:
        """A name that equal plans share."""
        return digest_of(self.to_dict())

    def check(self, task: Task) -> None:
        """Raise SparsityError when model or data are not the planned ones."""
        check_setting(task, self.setting)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""


def evaluation_samples(task: Task, setting: Setting) -> Split:
    """The samples that report: the same for every point and seed of the setting."""
    return _some(task.split(setting.split), setting.samples, seed=0).to(setting.device)


def draw_batches(split: Split, count: int, seed: int, device: str) -> list[Batch]:
    """`count` samples of a split (all when it has fewer), drawn by seed, as batches to score on."""
    drawn = _some(split, min(count, len(split)), seed).to(device)
    return list(drawn.batches(_SCORE_BATCH))


def _some(split: Split, count: int, seed: int) -> Split:
    """`count` samples drawn without replacement, in the split's own order."""
    if count == len(split):
        return split
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return split.take(order[:count].sort().values)
