"""Some samples under some masks again, those of all masks of a layer together."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from sparsity_core.sweep.program import Course, Suffix, Values, parted
from sparsity_core.sweep.rerun import BATCH, Rerun
from sparsity_core.sweep.shapes import filled_up, rounded_up
from sparsity_core.sweep.walk import Walk
from sparsity_core.weights import Masks

Asked = tuple[Masks, Tensor]  # masks, and the numbers (n,) of the samples to run under them


class Rescue(Rerun):
    """A rerun that can be asked about single samples, and has few of them pass together.

    On a GPU, which is fast when it has much to do at once, also many.
    """

    def _in_turn(self, layer: str, variants: Sequence[Masks]) -> Callable[[int], list[Tensor]]:
        few = len(variants) > 1 and 2 * len(self.inputs) <= self.pieces[layer]
        if self.near and not few:
            return super()._in_turn(layer, variants)
        made = cache(lambda: self._stacked(layer, variants))
        return lambda variant: made()[variant]

    @torch.no_grad()
    def _stacked(self, layer: str, variants: Sequence[Masks]) -> list[list[Tensor]]:
        """The outputs under each of the masks, of its samples in order.

        The layer runs for each of the masks, what follows for all of them: calling an operator
        costs as much as its work on a few samples.
        """
        suffix, own = self._suffix(layer, variants)
        size, times = self.pieces[layer], len(variants)
        head, tail = parted(suffix, (layer, *self.layers[layer].biases), self.axes)
        found: list[list[Tensor]] = [[] for _ in variants]
        for walk in chain(self.walks, self._passing()):
            count = len(walk.inputs)
            dense = self._started(walk.to(layer))
            dense |= {name: step.run(dense) for name, step in own.items()}
            step = count if self.near else max(1, size // times)
            for start in range(0, count, step):
                piece = {n: self._cut(n, value, start, step, count) for n, value in dense.items()}
                samples = min(step, count - start)
                joined = self._side_by_side(suffix, head, tail, variants, piece)
                every = self._in_pieces(tail, joined, samples * times, size)
                for outputs, output in zip(found, every.split(samples), strict=True):
                    outputs.append(output)
        return found

    def _side_by_side(
        self, suffix: Suffix, head: Course, tail: Suffix, variants: Sequence[Masks], dense: Values
    ) -> Values:
        """What the tail needs for the same samples under each of the masks, one after another."""
        made = []
        for masks in variants:
            with self._masked(suffix, masks):
                made.append(head.run({name: dense[name] for name in head.needs}))
        joined = {n: torch.cat([m[n] for m in made], self.axes.get(n, 0)) for n in head.keep}
        for name in tail.needs - head.keep:
            joined[name] = self._repeated(name, dense[name], len(variants))
        return joined

    @torch.no_grad()
    def some(self, layer: str, asked: Sequence[Asked]) -> list[Tensor]:
        """The outputs under each of the masks for its samples, of which there is at least one.

        The layer runs for each of the masks, what follows for the samples of all of them.
        """
        suffix, prunable = self.suffixes[layer], self.layers[layer]
        head, tail = parted(suffix, (layer, *prunable.biases), self.axes)
        found: list[list[Tensor]] = [[] for _ in asked]
        for block in _blocks(asked):
            samples = [numbers for _, numbers in block]
            outputs = self._block(layer, head, tail, [asked[i][0] for i, _ in block], samples)
            for (i, _), output in zip(block, outputs, strict=True):
                found[i].append(output)
        return [torch.cat(parts).cpu() for parts in found]

    def _block(
        self,
        layer: str,
        head: Course,
        tail: Suffix,
        masks: Sequence[Masks],
        samples: list[Tensor],
    ) -> list[Tensor]:
        counts, size = [len(numbers) for numbers in samples], self.pieces[layer]
        total = sum(counts)
        rest = total % size
        more = rounded_up(rest) - rest if rest else 0
        different, places = torch.cat(samples).unique(return_inverse=True)
        dense = self._of(layer, different)
        own = list(places.split(counts))
        own[-1] = filled_up(own[-1], counts[-1] + more)
        made = [
            self._head(layer, head, dense, len(different), *each)
            for each in zip(masks, own, strict=True)
        ]
        joined = {n: torch.cat([m[n] for m in made], self.axes.get(n, 0)) for n in head.keep}
        every = torch.cat(own)
        for name in tail.needs - head.keep:
            joined[name] = self._take(name, dense[name], every, len(different))
        return list(self._in_pieces(tail, joined, len(every), size)[:total].split(counts))

    def _head(
        self, layer: str, head: Course, dense: Values, samples: int, masks: Masks, own: Tensor
    ) -> Values:
        """What the steps up to the last use of the weights make of some of the samples."""
        count = rounded_up(len(own))
        filled = filled_up(own, count)
        given = {n: self._take(n, v, filled, samples) for n, v in dense.items() if n in head.needs}
        with self._masked(self.suffixes[layer], masks):
            made = head.run(given)
        return {name: self._cut(name, value, 0, len(own), count) for name, value in made.items()}

    def _of(self, layer: str, samples: Tensor) -> Values:
        """The dense values for samples given by their numbers (n,), ascending."""
        suffix = self.suffixes[layer]
        parts = []  # out of what is held, or by a walk of their own
        for i, walk in enumerate(self.walks):
            mine = samples[samples // BATCH == i] - i * BATCH
            if len(mine):
                dense, count = walk.to(layer), len(walk.inputs)
                parts.append({n: self._take(n, dense[n], mine, count) for n in suffix.needs})
        if len(others := samples[samples >= len(self.walks) * BATCH]):
            parts.append(Walk(self.route, self.inputs[others]).to(layer))
        dense = dict(parts[0])
        for name in suffix.needs & self.axes.keys():
            if isinstance(dense[name], Tensor) and len(parts) > 1:
                dense[name] = torch.cat([part[name] for part in parts], self.axes[name])
        return dense

    def _repeated(self, name: str, value: Any, times: int) -> Any:
        """What belongs to the samples, so many times over."""
        axis = self.axes.get(name)
        if axis is None or not isinstance(value, Tensor):
            return value
        return torch.cat([value] * times, axis)

    def _take(self, name: str, value: Any, which: Tensor, samples: int) -> Any:
        """What belongs to some of so many samples."""
        axis = self.axes.get(name)
        if axis is None or not isinstance(value, Tensor):
            return value
        each = value.shape[axis] // samples
        if each > 1:
            which = (which[:, None] * each + torch.arange(each)).flatten()
        return value.index_select(axis, which.to(value.device))


def _blocks(asked: Sequence[Asked]) -> Iterator[list[tuple[int, Tensor]]]:
    """Samples by the place of their masks, a batch of them at a time."""
    block: list[tuple[int, Tensor]] = []
    room = BATCH
    for place, (_, samples) in enumerate(asked):
        while len(samples):
            block.append((place, samples[:room]))
            samples, room = samples[room:], room - len(block[-1][1])
            if not room:
                yield block
                block, room = [], BATCH
    if block:
        yield block
