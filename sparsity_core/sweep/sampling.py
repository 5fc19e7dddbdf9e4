"""Early answers by the fast engines: on each round's samples, only what a layer reaches runs."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from sparsity_core.data import Split
from sparsity_core.sweep.rerun import BUDGET, Rerun
from sparsity_core.sweep.rescue import Rescue
from sparsity_core.sweep.screen import Screen
from sparsity_core.sweep.ways import Way, evaluated, ways
from sparsity_core.train import Evaluation
from sparsity_core.weights import Masks
from sparsity_core.workbench import Workbench

_SCREENED = 96  # samples, of all masks of a layer, from which on a round is screened


class FromLayer:
    """Measures points on some samples in the way in which an engine measures them on all.

    What the samples have before the layer is kept from point to point, as long as they are the
    same object. Few samples are not screened: the first look would be at most of them.
    """

    def __init__(self, engine: str, bench: Workbench, memory: int = BUDGET) -> None:
        self.engine = engine
        self.memory = memory  # bytes of dense values of a round
        self.bench = bench
        self._part = bench
        self._reruns: dict[Rerun, Rerun] = {}  # of all samples -> of the round's
        self._screens: dict[Screen, Screen] = {}
        self._errors: dict[str, float] = {}  # of bfloat16 in each layer, the largest seen
        self._doubtful: set[str] = set()  # layers that it leaves in doubt

    def __call__(
        self, layer: str, variants: Sequence[Masks], samples: Split
    ) -> Callable[[int], Evaluation]:
        """Metric and loss on each of the samples, for the variant at a place."""
        if samples is not self._part.samples:
            self._part = copy.copy(self.bench)  # the same model
            self._part.samples = samples
            self._reruns, self._screens = {}, {}
        part = self._part
        way = ways(self.bench, self.engine, self.memory).to(layer)
        here = replace(way, rerun=self._rerun(way))
        learn = way.margins.learn if way.margins else None
        outputs = self._screened(way, here.rerun, layer, variants) or here.rerun.outputs(
            layer, variants, learn
        )
        return lambda place: evaluated(part, here, outputs(place), variants[place])

    def _screened(
        self, way: Way, rerun: Rerun, layer: str, variants: Sequence[Masks]
    ) -> Callable[[int], list[Tensor]] | None:
        """What a look in bfloat16 gives, where one pays."""
        many = len(rerun.inputs) * len(variants) >= _SCREENED
        if not way.screen or layer in self._doubtful or not many:
            return None
        screened = self._screen(way.screen, rerun).screened(layer, variants)
        if isinstance(screened, str):
            self._doubtful.add(layer)
            return None
        return lambda place: [screened[place].outputs]

    def _rerun(self, way: Way) -> Rerun:
        """The way's rerun on the samples of the round."""
        if way.rerun not in self._reruns:
            # Pieces where the engine takes pieces: where the outputs need not have the same bits.
            cut = way.margins is not None
            kind = Rescue if way.screen else Rerun
            self._reruns[way.rerun] = kind(self._part, way.rerun.program, self.memory, cut)
        return self._reruns[way.rerun]

    def _screen(self, screen: Screen, rerun: Rerun) -> Screen:
        """The screen on the samples of the round; it knows the errors of the rounds before."""
        if screen not in self._screens:
            assert isinstance(rerun, Rescue)
            found = Screen(rerun, screen.low.program)
            found.errors = self._errors
            self._screens[screen] = found
        return self._screens[screen]
