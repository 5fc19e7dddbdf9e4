"""Scores from how much can flow through the network, without any data."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from sparsity_core.copied import copied
from sparsity_core.probe import Probe
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.weights import Scores


@SCORERS.register("synflow")
@dataclass(frozen=True)
class SynFlow(Scorer):
    """Synaptic flow: |w| * dR/d|w|, R the sum of outputs for ones, all weights positive.

    Needs no labels and no pixels, only the shape of an input. Meant for many geometric rounds (the
    paper: 100) with allocation global; in one shot it empties layers as others do. Computed in
    float64, since R overflows float32 in deep networks. Source: Tanaka et al. 2020, arXiv
    2006.05467.
    """

    memory: ClassVar[float] = 7

    def score(self, probe: Probe) -> Scores:
        """|w| * dR/d|w|, float64; zero for pruned weights and for layers never called."""
        model = copied(probe.model).double()
        with torch.no_grad():
            for value in model.state_dict().values():
                if value.is_floating_point():
                    value.abs_()
        parameters = dict(model.named_parameters())
        weights = [parameters[name].requires_grad_() for name in probe.layers]
        inputs = torch.ones_like(probe.first_input, dtype=torch.float64)
        total = model(inputs).sum()
        found = torch.autograd.grad(total, weights, allow_unused=True)
        return {
            name: torch.zeros_like(w) if gradient is None else (gradient * w).detach()
            for name, w, gradient in zip(probe.layers, weights, found, strict=True)
        }
