"""The time left of a sweep: what its groups of points took so far, and the work of those to come.

All levels of a layer may be made when the first is asked for, so a row's own time says little: the
group's does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sparsity_core.time_left import Done, WorkLeft

_RECENT = 8  # units whose pace foretells the time left


@dataclass(eq=False)
class _Unit:
    """Points of a group that are measured one after another, on the same samples."""

    group: int
    work: dict[str, float] = field(default_factory=dict)  # of those that are done
    times: list[float] = field(default_factory=list)  # seconds, as they came


class GroupsLeft(WorkLeft):
    """The work of some points that come in groups, and how long those that are done took.

    `work`: how much each point is, by id and in any unit; those of no work are not waited for.
    """

    def __init__(
        self,
        work: Mapping[str, float],
        groups: Iterable[Sequence[str]],
        workers: int = 1,
        pieces: Sequence[int] = (),
    ) -> None:
        """`pieces`: how many workers can share each group; one without."""
        self._groups = [[point for point in group if work.get(point)] for group in groups]
        self._group = {point: i for i, group in enumerate(self._groups) for point in group}
        super().__init__({point: work[point] for point in self._group})
        self._workers, self._pieces = workers, pieces
        self._parts: dict[str, int] = {}  # that were done of each point
        self._units: dict[tuple[int, int], _Unit] = {}  # by group and part
        self._last = 0.0

    def note(self, done: Done) -> None:
        """Hear what is done, and how long the last of it took; no point is settled early here."""
        point = done.point
        if point not in self._left:
            return
        group = self._group[point]
        self._parts[point] = self._parts.get(point, 0) + 1
        unit = self._units.setdefault((group, self._parts[point]), _Unit(group))
        left = (1 - done.share) * self._whole[point]
        unit.work[point] = self._left[point] - left
        unit.times.append(done.seconds)
        self._left[point] = left
        self._last = done.now

    def seconds(self, now: float) -> float | None:
        """Seconds left, when all workers stay busy; None while nobody knows."""
        begun = [(unit, *self._waiting(unit)) for unit in list(self._units.values())[-_RECENT:]]
        known = [each for each in begun if len(each[0].times) > 1 or not each[1]]
        taken = worked = ahead = 0.0
        for unit, waiting, work in known:
            rest = waiting * sum(unit.times[1:]) / max(1, len(unit.times) - 1)
            ahead += rest
            taken += sum(unit.times) + rest
            worked += sum(unit.work.values()) + work
        if not worked:
            return None
        pace, planned = taken / worked, self.left - sum(work for *_, work in begun)
        for unit, _, work in begun:
            if unit not in [own for own, *_ in known]:  # its first point may have made them all
                ahead += max(0.0, pace * (work + sum(unit.work.values())) - sum(unit.times))
        groups = {self._group[point] for point, work in self._left.items() if work}
        pieces = sum(self._pieces[group] if self._pieces else 1 for group in groups)
        busy = max(1, min(self._workers, pieces))
        return max(0.0, (ahead + pace * max(0.0, planned)) / busy - (now - self._last))

    def _waiting(self, unit: _Unit) -> tuple[int, float]:
        """How many points of a unit are still to come, and their work."""
        if not unit.work:
            return 0, 0.0
        share = max(work / self._whole[point] for point, work in unit.work.items())
        points = [p for p in self._groups[unit.group] if p not in unit.work and self._left.get(p)]
        return len(points), sum(min(share * self._whole[p], self._left[p]) for p in points)
