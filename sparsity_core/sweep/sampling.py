"""Early answers by the fast engines: on each round's samples, only what a layer reaches runs."""

import copy
from dataclasses import replace

from sparsity_core.data import Split
from sparsity_core.sweep.point import SweepPoint
from sparsity_core.sweep.rerun import BUDGET, Rerun
from sparsity_core.sweep.ways import Way, evaluated, ways
from sparsity_core.train import Evaluation
from sparsity_core.weights import Masks
from sparsity_core.workbench import Workbench


class FromLayer:
    """Measures points on some samples in the way in which an engine measures them on all.

    What the samples have before the layer is kept from point to point, as long as they are the
    same object.
    """

    def __init__(self, engine: str, bench: Workbench, memory: int = BUDGET) -> None:
        self.engine = engine
        self.memory = memory  # bytes of dense values of a round
        self.bench = bench
        self._part = bench
        self._reruns: dict[Rerun, Rerun] = {}  # of all samples -> of the round's

    def __call__(self, point: SweepPoint, masks: Masks, samples: Split) -> Evaluation:
        """The point's metric and loss on each of the samples."""
        if samples is not self._part.samples:
            self._part = copy.copy(self.bench)  # the same model
            self._part.samples = samples
            self._reruns = {}
        way = self._way(point.layer)
        outputs = way.rerun.outputs(point.layer, [masks])(0)
        return evaluated(self._part, way, outputs, masks)

    def _way(self, layer: str) -> Way:
        way = ways(self.bench, self.engine, self.memory).to(layer)
        if way.rerun not in self._reruns:
            # Pieces where the engine takes pieces: where the outputs need not have the same bits.
            cut = way.margins is not None
            found = Rerun(self._part, way.rerun.program, self.memory, cut)
            self._reruns[way.rerun] = found
        return replace(way, rerun=self._reruns[way.rerun])
