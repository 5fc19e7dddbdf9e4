"""The outputs of a model with one layer masked, by running again only what the layer reaches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from sparsity_core.sweep.masking import every_second, whole_outputs
from sparsity_core.sweep.program import (
    Program,
    Step,
    Suffix,
    Values,
    from_own_output,
    suffix_of,
)
from sparsity_core.sweep.together import Together, pays, together
from sparsity_core.sweep.walk import (
    Route,
    Walk,
    bytes_per_sample,
    route_of,
    sample_axes,
    value_bytes,
)
from sparsity_core.weights import Masks, prunable
from sparsity_core.workbench import Workbench

BATCH = 512  # samples at a time, as train.evaluate has them: other shapes may give other bits
BUDGET = 2**30  # bytes of dense values that may be kept between layers
CHECKED = 8  # samples on which a program has to do what the model does before it is used
CACHE = 2**23  # bytes that a step should read and write; ResNet-20 at 2^26 takes 1.2 times as long
FAR = 2**30  # the same on a GPU, where only its memory limits what runs side by side
NEAR_CACHE = 2**21  # bytes for the values of all levels side by side: a sixth faster than 2^23
_SMALLEST = 16  # samples: below, calling the operators takes longer than their work

Learn = Callable[[Tensor, Tensor], None]  # the model's outputs, a program's for the same samples


class Rerun:
    """A program of the model, on the samples of a workbench.

    Dense values of as many batches as the budget admits are kept from layer to layer; each further
    batch passes through once a layer, for all of its masks. With `cut` the batches go through a
    suffix in pieces that stay in the cache, or on a GPU in large ones. With a `source` the dense
    values are those that this one holds. `share`: of the usual bytes of a piece.
    """

    def __init__(
        self,
        bench: Workbench,
        program: Program,
        budget: int = BUDGET,
        cut: bool = False,
        source: "Rerun | None" = None,
        share: float = 1,
    ) -> None:
        self.bench = bench
        self.near = bench.setting.device == "cpu"
        self.model = bench.model
        self.program = program
        self.layers = prunable(self.model)
        self.parameters = dict(self.model.named_parameters())
        found = {n: suffix_of(program, (n, *p.biases)) for n, p in self.layers.items()}
        self.suffixes = {name: suffix for name, suffix in found.items() if suffix.steps}
        self.route: Route = source.route if source else route_of(program, self.suffixes)
        self.source = source
        self.inputs = bench.samples.inputs
        self.batches = self.inputs.split(BATCH)
        self.sample = self.batches[0][:CHECKED]
        self._few = Walk(self.route, self.sample)  # what is tried before a layer is measured
        self.sizes: dict[str, int] = source.sizes if source else value_bytes(program, self.sample)
        self.axes: dict[str, int] = source.axes if source else sample_axes(program, self.sample)
        sizes = self.sizes
        blanked = [sizes[step.name] for step in program.steps if step.blanked]
        each = bytes_per_sample(self.route, self.sample) + max(blanked, default=0)
        self.batch_bytes = len(self.batches[0]) * each
        held = budget // self.batch_bytes if self.batch_bytes else len(self.batches)
        self._walks = [] if source else [Walk(self.route, i) for i in self.batches[:held]]
        self.cut = cut
        self.pieces = dict.fromkeys(self.suffixes, BATCH)
        if cut:
            room = round(share * (CACHE if self.near else FAR))
            for name, suffix in self.suffixes.items():
                most = max(sum(sizes[n] for n in (*s.reads, s.name)) for s in suffix.steps)
                size = max(room // max(most, 1), 1)
                self.pieces[name] = _power_of_two(size) if self.near else size

    @property
    def walks(self) -> list[Walk]:
        """The batches that are held."""
        return self.source.walks if self.source else self._walks

    @property
    def held_bytes(self) -> int:
        """The dense values that are held between two layers, at most; one batch passes besides."""
        return self.batch_bytes * len(self.walks)

    def release(self) -> None:
        """Let go of what is held; the next layer starts from the inputs again."""
        self._walks = [Walk(self.route, walk.inputs) for walk in self._walks]

    @torch.no_grad()
    def trial(self, layer: str) -> tuple[Tensor, Tensor] | str:
        """The outputs of model and program for a few samples, every second weight masked.

        Or why the program cannot measure the layer. In pieces, when batches may go in pieces or
        samples alone: a model whose samples are not independent gives other outputs then.
        """
        if layer not in self.suffixes:
            return "no step of the program uses the layer"
        suffix, masks = self.suffixes[layer], every_second(self.layers[layer], self.parameters)
        piece = -(-CHECKED // 2) if self.cut else BATCH
        try:
            dense = self._started(self._few.to(layer))
            with self._masked(suffix, masks):
                found = self._in_pieces(suffix, dense, len(self.sample), piece)
                # A source was compared with the model; how far bfloat16 is off, the screen learns.
                expected = self.model(self.sample) if self.source is None else found
        except Exception as error:  # noqa: BLE001 - what the model can, its program may not
            return f"the captured program raises {error!r}"
        alike = isinstance(found, Tensor) and found.shape == expected.shape
        return (expected, found) if alike else "the captured program gives other shapes"

    def outputs(
        self, layer: str, variants: Sequence[Masks], learn: Learn | None = None
    ) -> Callable[[int], list[Tensor]]:
        """For each of the variants, by its place, the model's outputs for all batches in order.

        `learn` is told how outputs are rounded that are made in another way than `trial`'s: what
        the model says to a few samples, and what they are.
        """
        if all_at_once := self._together(layer, variants):
            if learn:
                self._compare(layer, variants, all_at_once, learn)
            return self._all_outputs(layer, len(variants), all_at_once)
        return self._in_turn(layer, variants)

    def _in_turn(self, layer: str, variants: Sequence[Masks]) -> Callable[[int], list[Tensor]]:
        """As `outputs`, each variant when it is asked for."""
        suffix, own = self._suffix(layer, variants)
        size = self.pieces[layer]
        passing: list[list[Tensor]] = []

        def start(walk: Walk) -> Values:
            dense = self._started(walk.to(layer))
            return dense | {name: step.run(dense) for name, step in own.items()}

        @torch.no_grad()
        def pass_by() -> None:
            made: list[list[Tensor]] = [[] for _ in variants]
            for walk in self._passing():
                dense = start(walk)
                for outputs, masks in zip(made, variants, strict=True):
                    with self._masked(suffix, masks):
                        outputs.append(self._in_pieces(suffix, dense, len(walk.inputs), size))
            passing.extend(made)

        @cache
        @torch.no_grad()
        def kept() -> list[tuple[Values, int]]:
            return [(start(walk), len(walk.inputs)) for walk in self.walks]

        @torch.no_grad()
        def of(variant: int) -> list[Tensor]:
            if not passing:
                pass_by()
            given = kept()
            with self._masked(suffix, variants[variant]):
                made = [self._in_pieces(suffix, dense, samples, size) for dense, samples in given]
            return made + passing[variant]

        return of

    @torch.no_grad()
    def _together(self, layer: str, variants: Sequence[Masks]) -> Together | None:
        """The suffix for all variants at once, where that is possible and pays."""
        suffix, sizes = self.suffixes[layer], self.sizes
        own = max(sizes[step.name] for step in suffix.steps if layer in step.weights)
        rows = len(self.inputs) * own // (4 * self.layers[layer].shape[0])
        if not pays(self.layers[layer].size, len(variants), rows):
            return None
        return together(suffix, layer, variants, self.axes if self.cut else {})

    @torch.no_grad()
    def _compare(
        self, layer: str, variants: Sequence[Masks], suffix: Together, learn: Learn
    ) -> None:
        found = suffix(self._started(self._few.to(layer)))
        for place in (0, len(variants) // 2, len(variants) - 1):
            learn(self.own(variants[place], torch.arange(len(self.sample))), found[place])

    def _all_outputs(
        self, layer: str, levels: int, suffix: Together
    ) -> Callable[[int], list[Tensor]]:
        """As `outputs`, of all variants when the first is asked for; in pieces."""
        needs, size = self.suffixes[layer].needs, self.pieces[layer]
        if suffix.side_by_side:
            size = min(size, _power_of_two(NEAR_CACHE // (levels * self.sizes[suffix.own.name])))

        @cache
        @torch.no_grad()
        def made() -> list[list[Tensor]]:
            found: list[list[Tensor]] = [[] for _ in range(levels)]
            for walk in chain(self.walks, self._passing()):
                dense, count = self._started(walk.to(layer)), len(walk.inputs)
                for start in range(0, count, size):
                    piece = {n: self._cut(n, dense[n], start, size, count) for n in needs}
                    for outputs, output in zip(found, suffix(piece), strict=True):
                        outputs.append(output)
            return found

        return lambda variant: made()[variant]

    @torch.no_grad()
    def _suffix(self, layer: str, variants: Sequence[Masks]) -> tuple[Suffix, dict[str, Step]]:
        """What runs again; and steps whose dense values it starts from, by the names of these.

        When only whole outputs go, the layer need not run again: its dense output is blanked.
        """
        suffix = self.suffixes[layer]
        users = [s for s in suffix.steps if not s.weights.isdisjoint(variants[0])]
        by_outputs = all(whole_outputs(masks[layer]) for masks in variants)
        if len(users) != 1 or not users[0].blanked or not by_outputs:
            return suffix, {}
        blanking, name = from_own_output(suffix, users[0])
        dense = self._started(self._few.to(layer))
        own = {name: users[0].run(dense)}
        if (axis := self.axes.get(users[0].name)) is not None:
            self.axes[name] = axis
        for masks in (variants[0], variants[-1]):
            with self._masked(suffix, masks):
                found, right = blanking(dense | own), suffix(dense)
            near = 1e-4 if self.source is None else 0.05  # bfloat16 has 8 bits
            if not torch.allclose(found, right, rtol=near, atol=near * float(right.abs().max())):
                return suffix, {}
        return blanking, {name: users[0]}

    def _passing(self) -> Iterator[Walk]:
        """The batches that are not held."""
        return (Walk(self.route, inputs) for inputs in self.batches[len(self.walks) :])

    def _started(self, dense: Values) -> Values:
        """The dense values as the suffix takes them."""
        return dense

    @torch.no_grad()
    def own(self, masks: Masks, samples: Tensor) -> Tensor:
        """What the masked model itself says to samples, given by their numbers (n,)."""
        with self.bench.masked(masks):
            outputs = [self.model(some) for some in self.inputs[samples].split(BATCH)]
            return torch.cat(outputs).cpu()

    def _in_pieces(self, suffix: Suffix, dense: Values, samples: int, size: int) -> Tensor:
        """The suffix's output for all samples, so many at a time."""
        if samples <= size:
            found: Tensor = suffix(dense)
            return found

        def piece(start: int) -> Values:
            return {n: self._cut(n, dense[n], start, size, samples) for n in suffix.needs}

        return torch.cat([suffix(piece(start)) for start in range(0, samples, size)])

    def _cut(self, name: str, value: Any, start: int, size: int, samples: int) -> Any:
        """What belongs to so many of the samples, from `start` on; a view."""
        axis = self.axes.get(name)
        if axis is None or not isinstance(value, Tensor):
            return value
        each = value.shape[axis] // samples
        return value.narrow(axis, each * start, each * min(size, samples - start))

    @contextmanager
    def _masked(self, suffix: Suffix, masks: Masks) -> Iterator[None]:
        with self.bench.masked(masks), ExitStack() as stack:
            for step in suffix.steps:
                if not step.weights.isdisjoint(masks):
                    stack.enter_context(step.adapted())
            yield


def _power_of_two(samples: int) -> int:
    return max(_SMALLEST, min(BATCH, 1 << (max(samples, 1).bit_length() - 1)))
