"""The time left, from the work that is left and the pace of the last rows."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_RECENT = 50  # rows whose pace foretells the time left


@dataclass(frozen=True)
class Done:
    """So much of a point is done at a time."""

    point: str  # its id
    share: float  # of its work, 0..1
    now: float  # seconds
    settled: bool = True  # then the rest need not be done
    seconds: float = 0.0  # that the last of it took


class WorkLeft(ABC):
    """The work of some points by id, in any unit, and what is left of it."""

    def __init__(self, work: Mapping[str, float]) -> None:
        self._whole = dict(work)
        self._left = dict(work)

    @property
    def left(self) -> float:
        """The work that is left, at most."""
        return sum(self._left.values())

    def drop(self, points: Iterable[str]) -> None:
        """Points that somebody else has done."""
        for point in points:
            self._left.pop(point, None)

    def begun(self, point: str, share: float) -> None:
        """So much of a point, 0..1, was done before."""
        if point in self._left:
            self._left[point] = (1 - share) * self._whole[point]

    @abstractmethod
    def note(self, done: Done) -> None:
        """Hear what is done; points of others are left alone."""

    @abstractmethod
    def seconds(self, now: float) -> float | None:
        """Seconds left at a time, 0 or more; None while nobody knows."""


class TimeLeft(WorkLeft):
    """How fast the work of some points is being done.

    A point may be done in parts, and be settled before all of its work is done.
    """

    def __init__(self, work: Mapping[str, float], points: Iterable[str]) -> None:
        """`work`: how much each point is, by id; a point that is not there is 1."""
        super().__init__({point: work.get(point, 1.0) for point in points})
        self._spent = 0.0
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)  # when, and spent by then

    def note(self, done: Done) -> None:
        """Hear what is done, settled or not."""
        if done.point not in self._left:
            return
        left = (1 - done.share) * self._whole[done.point]
        self._spent += self._left.pop(done.point) - left
        if not done.settled:
            self._left[done.point] = left
        self._recent.append((done.now, self._spent))

    def seconds(self, now: float) -> float | None:
        """Seconds left at the pace of the last rows, at most; None while nobody knows.

        The first row also took the start, so it takes two.
        """
        if len(self._recent) < 2:
            return None
        (begun, at_first), (last, spent) = self._recent[0], self._recent[-1]
        if spent <= at_first:
            return None
        return max(0.0, (last - begun) / (spent - at_first) * self.left - (now - last))
