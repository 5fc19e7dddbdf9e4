"""Which channels of which values are the same channel, and which of them are constant.

A channel that a convolution makes, a batch norm shifts and a residual adds to another is one
channel: it is there everywhere or nowhere. Classes of channels are kept as a union-find.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Flow:
    """The channels of one value: where they lie, which they are, and what they are worth.

    `ids`: one a position of `axis`. `constants`: (positions,) float64, what a channel is for every
    input and at every place; NaN where it varies.
    """

    axis: int
    ids: tuple[int, ...]
    constants: Tensor

    @property
    def fixed(self) -> Tensor:
        """True where a channel is constant."""
        return ~self.constants.isnan()


class Classes:
    """Channels that can only go together, and those that cannot go at all."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._frozen: dict[int, str] = {}

    def new(self, count: int) -> tuple[int, ...]:
        """So many channels, each on its own."""
        first = len(self._parents)
        self._parents += range(first, first + count)
        return tuple(range(first, first + count))

    def of(self, channel: int) -> int:
        """The name of a channel's class: one of its channels."""
        while (parent := self._parents[channel]) != channel:
            self._parents[channel] = self._parents[parent]
            channel = parent
        return channel

    def join(self, a: Iterable[int], b: Iterable[int]) -> None:
        """Each of `a` is the same channel as its counterpart in `b`."""
        for one, other in zip(a, b, strict=True):
            keep, gone = sorted((self.of(one), self.of(other)))
            if keep != gone:
                self._parents[gone] = keep
                if gone in self._frozen:
                    self._frozen.setdefault(keep, self._frozen.pop(gone))

    def freeze(self, channels: Iterable[int], why: str) -> None:
        """These channels cannot go."""
        for channel in channels:
            self._frozen.setdefault(self.of(channel), why)

    def mask(self, channels: Iterable[int], gone: set[int]) -> Tensor:
        """True for the channels whose class stays."""
        return torch.tensor([self.of(channel) not in gone for channel in channels])

    @property
    def frozen(self) -> dict[int, str]:
        """Classes that cannot go -> why."""
        return dict(self._frozen)

    def all(self) -> set[int]:
        """All classes."""
        return {self.of(channel) for channel in range(len(self._parents))}


def varying(axis: int, ids: tuple[int, ...]) -> Flow:
    """A flow of which nothing is known."""
    return Flow(axis, ids, torch.full((len(ids),), torch.nan, dtype=torch.float64))
