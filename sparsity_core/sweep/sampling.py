"""Early answers by the fast engines: on each round's samples, only what a layer reaches runs."""

import copy
from dataclasses import replace

from sparsity_core.data import Split
from sparsity_core.sweep.point import SweepPoint
from sparsity_core.sweep.rerun import BUDGET, Rerun
from sparsity_core.sweep.rescue import Rescue
from sparsity_core.sweep.screen import Screen
from sparsity_core.sweep.ways import Way, evaluated, ways
from sparsity_core.train import Evaluation
from sparsity_core.weights import Masks
from sparsity_core.workbench import Workbench

_SCREENED = 96  # samples from which on a round is screened


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

    def __call__(self, point: SweepPoint, masks: Masks, samples: Split) -> Evaluation:
        """The point's metric and loss on each of the samples."""
        if samples is not self._part.samples:
            self._part = copy.copy(self.bench)  # the same model
            self._part.samples = samples
            self._reruns, self._screens = {}, {}
        layer = point.layer
        way = ways(self.bench, self.engine, self.memory).to(layer)
        here = replace(way, rerun=self._rerun(way))
        if way.screen and layer not in self._doubtful and len(samples) >= _SCREENED:
            screened = self._screen(way.screen, here.rerun).screened(layer, [masks])
            if not isinstance(screened, str):
                return evaluated(self._part, here, [screened[0].outputs], masks)
            self._doubtful.add(layer)
        return evaluated(self._part, here, here.rerun.outputs(layer, [masks])(0), masks)

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
