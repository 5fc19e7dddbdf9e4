"""Points measured on some of the samples each: the parts of the rows that all samples give.

A prediction counts as it does in a measurement of all samples. Where the engine's way of a layer
has margins, it does not depend on which samples stand together; elsewhere, and where the margins
leave a doubt, whole batches are run, those of the reference.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, reduce
from itertools import groupby, pairwise
from operator import add

import torch
from torch import Tensor

from sparsity_core.comparison import Tally, removed_weights, sparsity_under
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.setting import Setting
from sparsity_core.status import rows_of
from sparsity_core.sweep.decide import whole_model
from sparsity_core.sweep.levels import Levels
from sparsity_core.sweep.order import Order, cut_name, order_of, rates_from
from sparsity_core.sweep.rerun import BATCH
from sparsity_core.sweep.sampling import FromLayer, Seen
from sparsity_core.sweep.share import Part, Share, Span, blank, filled
from sparsity_core.sweep.trials import Chosen, at
from sparsity_core.task import Task
from sparsity_core.weights import Masks
from sparsity_core.workbench import Workbench, workbench

REFERENCE = "reference"


def measure(
    task: Task, setting: Setting, shares: Sequence[Share], engine: str, memory: int
) -> Iterator[Part]:
    """A part for each share, in order; whatever goes wrong with one is its status.

    `memory`: bytes of dense values that may be kept between layers.
    """

    def scoring(share: Share) -> tuple[object, ...]:
        point = share.point
        return point.seed, point.scorer, point.structure, point.layer

    for _, group in groupby(shares, scoring):
        layer = _Layer(workbench(task, setting), list(group), engine, memory)
        yield from rows_of(layer.shares, layer.part, layer.unmeasured)


class _Layer:
    """Shares of points that share a scoring."""

    def __init__(self, bench: Workbench, shares: list[Share], engine: str, memory: int) -> None:
        self.bench, self.shares, self.engine = bench, shares, engine
        self.some = _samples(bench, engine, memory)
        self._found: dict[tuple[str, Span], Callable[[int], Seen]] = {}

    def part(self, share: Share) -> Part:
        """What the share's samples say; raises what keeps them from it."""
        levels, point = self.levels, share.point
        if refusal := levels.refusal(point.sparsity):
            return self.unmeasured(share, "skipped", f"{point.layer}: {refusal}")
        metric = self.bench.task.metric
        if metric.of_mean:
            raise SparsityError(f"{metric.name} is no plain mean over samples; measure all at once")
        own = self.checked[share.id]
        spans = [span for span in self.spans[own.order] if _covers(own, own.order, span)]
        seen = [self._seen(own.order, span, levels.place(point.sparsity)) for span in spans]
        dense = [at(self.bench.dense, self.some.of(own.order, span).numbers) for span in spans]
        tally = reduce(add, map(Tally.of, dense, seen))
        mask = levels.distinct[levels.place(point.sparsity)][point.layer]
        measured = self.unmeasured(share, "ok" if mask.any() else "collapsed", levels.layer.note)
        return filled(
            replace(measured, first=own.first, stop=own.stop, order=own.order),
            seen,
            tally,
            removed_weights(levels.weight, mask),
            sparsity_under(levels.weight, mask),
        )

    def unmeasured(self, share: Share, status: str, message: str) -> Part:
        """The part of a share that raised."""
        return blank(self.bench.setting, share, self.engine, status, message)

    @cached_property
    def levels(self) -> Levels:
        return Levels(self.bench, [share.point for share in self.shares])

    @cached_property
    def checked(self) -> dict[str, Share]:
        """The shares by id; one of an order that is another here is all samples."""
        return {share.id: self.some.checked(share) for share in self.shares}

    @cached_property
    def spans(self) -> dict[str, list[Span]]:
        """By order: its samples, cut wherever a share begins or ends."""
        cuts: dict[str, set[int]] = {}
        for share in self.checked.values():
            cuts.setdefault(share.order, set()).update((share.first, share.stop))
        return {order: list(pairwise(sorted(own))) for order, own in cuts.items()}

    def _seen(self, order: str, span: Span, place: int) -> Seen:
        """The masks at a place on the samples of a span."""
        if (order, span) not in self._found:
            self._found[order, span] = self._sampled(order, span)
        return self._found[order, span](place)

    def _sampled(self, order: str, span: Span) -> Callable[[int], Seen]:
        levels, layer = self.levels, self.shares[0].point.layer
        own = [s for s in self.shares if _covers(self.checked[s.id], order, span)]
        asked = {share.point.sparsity for share in own}
        places = sorted({levels.place(s) for s in asked if not levels.refusal(s)})
        masks = Chosen(levels.distinct, places)
        some = self.some.of(order, span)
        found = some.measured(layer, masks)
        return lambda place: found(places.index(place))


@dataclass(eq=False)
class _Some:
    """Samples by their numbers (n,), ascending, and what measures them."""

    bench: Workbench
    numbers: Tensor
    sampler: FromLayer | None  # None: the whole model, in whole batches

    @cached_property
    def samples(self) -> Split:
        """The samples themselves."""
        return self.bench.samples.take(self.numbers)

    @cached_property
    def aligned(self) -> bool:
        """Are they whole batches of all samples, one after another?"""
        return torch.equal(self.numbers, self._batches)

    def measured(self, layer: str, variants: Sequence[Masks]) -> Callable[[int], Seen]:
        """What is seen of the layer under each of some masks, by its place."""
        way = self.sampler.way(layer) if self.sampler else None
        apart = self.sampler and way and (way.margins or self.aligned)
        found = self.sampler(layer, variants, self.samples) if self.sampler and apart else None

        def of(place: int) -> Seen:
            if found and ((seen := found(place)).sure or self.aligned):
                return seen
            engine, note = (way.engine, way.note) if way else (REFERENCE, "")
            return self._by_batches(layer, variants[place], engine, note)

        return of

    @cached_property
    def _batches(self) -> Tensor:
        """The numbers of all samples in the batches that these are in."""
        every = torch.arange(len(self.bench.samples)).split(BATCH)
        return torch.cat([every[i] for i in (self.numbers // BATCH).unique().tolist()])

    def _by_batches(self, layer: str, masks: Masks, engine: str, note: str) -> Seen:
        whole = whole_model(self.bench)(layer, [masks], self.bench.samples.take(self._batches))(0)
        own = at(whole, torch.searchsorted(self._batches, self.numbers))
        return Seen(own.values, own.losses, own.predictions, engine=engine, note=note)


class _Samples:
    """Samples of a workbench by where they stand in an order.

    Kept from layer to layer with their dense values, as many as there are samples in all.
    """

    def __init__(self, bench: Workbench, engine: str, memory: int) -> None:
        self.bench, self.engine, self.memory = bench, engine, memory
        self._orders: dict[int, Order] = {}
        self._kept: dict[tuple[str, Span], _Some] = {}

    def checked(self, share: Share) -> Share:
        """The share; on all samples where an early answer's order is another than here."""
        if not share.order:
            return share
        seed = _seed(share.order)
        cut = share.first or share.stop
        if share.order == cut_name(self._order(seed), seed, cut):
            return share
        return Share(share.point, 0, len(self.bench.samples))

    def of(self, order: str, span: Span) -> _Some:
        """The samples of a span."""
        if (order, span) not in self._kept:
            total, size = len(self.bench.samples), span[1] - span[0]
            while self._kept and size + sum(len(s.numbers) for s in self._kept.values()) > total:
                del self._kept[next(iter(self._kept))]
            numbers = torch.arange(*span)
            if order:
                drawn = self._order(_seed(order)).samples[span[0] : span[1]]
                numbers = torch.from_numpy(drawn).sort().values
            sampler = None
            if self.engine != REFERENCE:
                sampler = FromLayer(self.engine, self.bench, self.memory * size // total)
            self._kept[order, span] = _Some(self.bench, numbers, sampler)
        return self._kept[order, span]

    def _order(self, seed: int) -> Order:
        if seed not in self._orders:
            rates = rates_from(self.bench.dense.losses.double().numpy())
            self._orders[seed] = order_of(rates, seed)
        return self._orders[seed]


@lru_cache(maxsize=2)
def _samples(bench: Workbench, engine: str, memory: int) -> _Samples:
    """Kept for the next layer."""
    return _Samples(bench, engine, memory)


def _covers(share: Share, order: str, span: Span) -> bool:
    return share.order == order and share.first <= span[0] and span[1] <= share.stop


def _seed(order: str) -> int:
    return int(order.split(".")[0])
