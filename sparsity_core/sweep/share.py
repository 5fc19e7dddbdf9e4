"""A point on some of the samples: a unit of work, what it gives, and the row that all give.

Shares and parts are plain data under an id of their own, so that whatever carries points and rows
carries them, and a part that is stored is not measured again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import torch

from sparsity_core.comparison import Tally
from sparsity_core.intervals import Paired
from sparsity_core.machine import device_label, versions
from sparsity_core.setting import Setting
from sparsity_core.sweep.point import Result, SweepPoint, unmeasured
from sparsity_core.sweep.sampling import Seen
from sparsity_core.sweep.screen import Screened

_SIGN = ":"  # between a point and its samples; no other id has it

Span = tuple[int, int]  # the first sample, and the one after the last


@dataclass(frozen=True)
class Share:
    """A point, to be measured on the samples from `first` to before `stop`.

    They stand as in the split, or in the random `order` of an early answer: its seed, and the
    digest of the samples before or after the cut, by which a worker knows whether its order is the
    same.
    """

    point: SweepPoint
    first: int
    stop: int
    order: str = ""

    @property
    def id(self) -> str:
        """The point's id and the samples."""
        return f"{self.point.id}{_SIGN}{self.first}-{self.stop}{'@' * bool(self.order)}{self.order}"

    def within(self, span: Span) -> "Share | None":
        """Those of its samples that are in the span; None where there is none."""
        first, stop = max(self.first, span[0]), min(self.stop, span[1])
        return replace(self, first=first, stop=stop) if first < stop else None


@dataclass(frozen=True)
class Part:
    """What was seen of a point on some samples; without a tally, why nothing was."""

    point_id: str  # the share's
    first: int
    stop: int
    order: str
    status: str
    message: str
    engine: str
    device: str
    versions: str
    seconds: float = 0.0
    note: str = ""  # how the engine did, besides
    achieved_sparsity: float | None = None
    removed: int | None = None
    screened: bool = False
    rescued: int = 0  # samples run again in float32
    audited: int = 0
    tally: Tally | None = None

    @property
    def owner(self) -> str:
        """The id of the point."""
        return self.point_id.split(_SIGN)[0]

    @property
    def span(self) -> Span:
        """Its samples."""
        return self.first, self.stop


def blank(setting: Setting, share: Share, engine: str, status: str, message: str) -> Part:
    """A share's part without any number."""
    return Part(
        share.id,
        share.first,
        share.stop,
        share.order,
        status=status,
        message=message,
        engine=engine,
        device=device_label(setting.device),
        versions=versions(),
    )


def filled(part: Part, seen: Sequence[Seen], tally: Tally, removed: int, achieved: float) -> Part:
    """The part with what was seen; its engine is that of most samples, if none was screened."""
    most = max(seen, key=lambda each: (each.screened, len(each.values)))
    return replace(
        part,
        engine=most.engine,
        note=most.note,
        achieved_sparsity=achieved,
        removed=removed,
        screened=most.screened,
        rescued=sum(round(each.rescued * len(each.values)) for each in seen),
        audited=sum(round(each.audited * len(each.values)) for each in seen),
        tally=tally,
    )


def is_part(name: str) -> bool:
    """Is it the id of a share, not of a point?"""
    return _SIGN in name


def share_of(name: str, points: Mapping[str, SweepPoint]) -> Share:
    """The share of an id; `points` by their ids."""
    owner, _, rest = name.partition(_SIGN)
    span, _, order = rest.partition("@")
    first, _, stop = span.partition("-")
    return Share(points[owner], int(first), int(stop), order)


def part_from_dict(data: Mapping[str, Any]) -> Part:
    """The part that `dataclasses.asdict` made."""
    tally = data["tally"]
    if tally is not None:
        paired = {name: Paired(**tally[name]) for name in ("drop", "rise")}
        tally = Tally(**(tally | paired))
    return Part(**(dict(data) | {"tally": tally}))


def fitting(parts: Sequence[Part]) -> list[Part]:
    """Parts in one order that have no sample in common: of the order that was seen most of."""
    best: list[Part] = []
    for order in dict.fromkeys(part.order for part in parts):
        own = [part for part in parts if part.order == order and part.tally]
        found: list[Part] = []
        for part in sorted(own, key=lambda part: (part.first, -part.stop)):
            if not found or part.first >= found[-1].stop:
                found.append(part)
        if _size(found) > _size(best):
            best = found
    return best


def gaps(parts: Sequence[Part], samples: int) -> list[Span]:
    """Which of so many samples the parts, as `fitting` gives them, leave out."""
    ends = [0, *(part.stop for part in parts)]
    starts = [*(part.first for part in parts), samples]
    return [(end, start) for end, start in zip(ends, starts, strict=True) if end < start]


def combined(setting: Setting, point: SweepPoint, parts: Sequence[Part]) -> Result:
    """The row of a point whose parts, as `fitting` gives them, have seen every sample."""
    tally = reduce(add, [part.tally for part in parts if part.tally])
    largest = max(parts, key=lambda part: (part.screened, part.stop - part.first))
    note = largest.note
    if largest.screened:
        shares = (sum(getattr(p, n) for p in parts) for n in ("rescued", "audited"))
        note = Screened(torch.empty(0), *(count / setting.samples for count in shares)).note
    message = "; ".join(filter(None, (largest.message, note)))
    return replace(
        unmeasured(setting, point, largest.engine, largest.status, message),
        achieved_sparsity=largest.achieved_sparsity,
        removed=largest.removed,
        seconds=sum(part.seconds for part in parts),
        device=largest.device,
        versions=largest.versions,
        **asdict(tally.comparison()),
    )


def _size(parts: Sequence[Part]) -> int:
    return sum(part.stop - part.first for part in parts)
