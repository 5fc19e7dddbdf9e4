"""Early answers by the fast engines: on each round's samples, only what a layer reaches runs."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from sparsity_core.data import Split
from sparsity_core.sweep.rerun import BUDGET, Rerun
from sparsity_core.sweep.rescue import Rescue
from sparsity_core.sweep.screen import Screen, Screened
from sparsity_core.sweep.ways import Way, evaluated, ways, without_screen
from sparsity_core.train import Evaluation
from sparsity_core.weights import Masks
from sparsity_core.workbench import Workbench

_SCREENED = 96  # samples, of all masks of a layer, from which on a round is screened


@dataclass(frozen=True, eq=False)
class Seen(Evaluation):
    """An evaluation on some samples, and how it came about."""

    engine: str = ""  # as a row names it
    note: str = ""
    rescued: float = 0.0  # share of the samples
    audited: float = 0.0
    screened: bool = False
    sure: bool = False  # is every prediction that of the model on all samples, batch by batch?


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
        self._doubtful: dict[str, str] = {}  # layers that it leaves in doubt, and why

    def __call__(
        self, layer: str, variants: Sequence[Masks], samples: Split
    ) -> Callable[[int], Seen]:
        """Metric and loss on each of the samples, for the variant at a place."""
        if samples is not self._part.samples:
            self._part = copy.copy(self.bench)  # the same model
            self._part.samples = samples
            self._reruns, self._screens = {}, {}
        way = self.way(layer)
        here = replace(way, rerun=self._rerun(way))
        screened = self._screened(way, here.rerun, layer, variants)
        if way.screen and isinstance(screened, str):
            here = without_screen(here, screened)
        learn = way.margins.learn if way.margins else None
        outputs = here.rerun.outputs(layer, variants, learn) if isinstance(screened, str) else None

        def of(place: int) -> Seen:
            if outputs:
                return self._seen(here, outputs(place), variants[place])
            assert not isinstance(screened, str)
            looked = screened[place]
            seen = self._seen(here, [looked.outputs], variants[place])
            seen = replace(seen, note=looked.note, screened=True)
            return replace(seen, rescued=looked.rescued, audited=looked.audited)

        return of

    def way(self, layer: str) -> Way:
        """How a layer is measured; with margins, predictions do not depend on who else is there."""
        return ways(self.bench, self.engine, self.memory).to(layer)

    def _seen(self, way: Way, outputs: Sequence[Tensor], masks: Masks) -> Seen:
        margins = way.margins
        batches = margins.batches if margins else 0
        found = evaluated(self._part, way, outputs, masks)
        return Seen(
            found.values,
            found.losses,
            found.predictions,
            engine=way.engine,
            note=way.note,
            # Whole batches are asked where few samples leave doubt: here they are other batches.
            sure=margins is not None and margins.batches == batches,
        )

    def _screened(
        self, way: Way, rerun: Rerun, layer: str, variants: Sequence[Masks]
    ) -> list[Screened] | str:
        """What a look in bfloat16 gives, where one pays; or why there is none."""
        if not way.screen:
            return "the way has no screen"
        if layer in self._doubtful:
            return self._doubtful[layer]
        if len(rerun.inputs) * len(variants) < _SCREENED:
            return "few samples"
        screened = self._screen(way.screen, rerun).screened(layer, variants)
        if isinstance(screened, str):
            self._doubtful[layer] = screened
        return screened

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
