"""Scores from what comes out of a layer: one number an output, the same for all its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsity_core.follow import Path, measure, paths
from sparsity_core.probe import Probe
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.weights import Scores, check_finite


@SCORERS.register("bn-scale")
@dataclass(frozen=True)
class BNScale(Scorer):
    """Network slimming: |gamma|, the scale of the batch norm that reads the output.

    Meant for a model trained with an L1 penalty on its scales, and for allocation global. Source:
    Liu et al. 2017, arXiv 1708.06519 (whose code prunes one output more than asked).
    """

    memory: ClassVar[float] = 1
    ranks: ClassVar[Literal["weights", "outputs"]] = "outputs"

    def refuses(self, probe: Probe) -> dict[str, str]:
        """Layers without a scale that all of their output goes through."""
        return _refused(probe, _why_no_scale)

    def score(self, probe: Probe) -> Scores:
        """|gamma|; zero for a refused layer."""
        refused = self.refuses(probe)
        parameters = dict(probe.model.named_parameters())
        outputs = {name: w.new_zeros(w.shape[0]) for name, w in probe.weights.items()}
        for path in _paths(probe):
            if path.name not in refused and path.norm and path.norm.scale:
                outputs[path.name][path.rows] = parameters[path.norm.scale].detach().abs()
        return per_weight(probe, outputs)


@SCORERS.register("mean-activation")
@dataclass(frozen=True)
class MeanActivation(Scorer):
    """The mean size of the output's activation, |a|, over all samples and positions.

    The activation is the value behind the layer's bias, batch norm and nonlinearity, as far as
    there are any and nothing else reads the output before. Source: the criterion of that name in
    Molchanov et al. 2017, arXiv 1611.06440.
    """

    memory: ClassVar[float] = 1
    ranks: ClassVar[Literal["weights", "outputs"]] = "outputs"

    def score(self, probe: Probe) -> Scores:
        """Mean of |a|; zero for a layer that is never called."""
        return per_weight(probe, {name: size for name, (size, _) in _activity(probe).items()})


@SCORERS.register("apoz")
@dataclass(frozen=True)
class APoZ(Scorer):
    """How often the output's activation is not zero: 1 - APoZ, its average percentage of zeros.

    Over all samples and positions; for layers with a ReLU, or another activation that is exactly
    zero for a range of inputs, right behind them or behind their batch norm. Source: Hu et al.
    2016, arXiv 1607.03250, who prune the outputs of highest APoZ.
    """

    memory: ClassVar[float] = 1
    ranks: ClassVar[Literal["weights", "outputs"]] = "outputs"

    def refuses(self, probe: Probe) -> dict[str, str]:
        """Layers whose outputs are never exactly zero, but by accident."""
        return _refused(probe, _why_no_zeros)

    def score(self, probe: Probe) -> Scores:
        """The share of activations that are not zero; zero for a refused layer."""
        refused = self.refuses(probe)
        outputs = {
            name: torch.zeros_like(alive) if name in refused else alive
            for name, (_, alive) in _activity(probe).items()
        }
        return per_weight(probe, outputs)


def per_weight(probe: Probe, outputs: Mapping[str, Tensor]) -> Scores:
    """Scores of outputs, by layer, as scores of weights: a row's weights all have its number.

    In float32 at least: bfloat16 would make ties.
    """
    return {
        name: outputs[name]
        .to(torch.promote_types(w.dtype, torch.float32))
        .reshape(-1, *[1] * (w.dim() - 1))
        .expand(w.shape)
        for name, w in probe.weights.items()
    }


def _paths(probe: Probe) -> list[Path]:
    """The paths of all outputs, traced once with one sample."""
    return probe.once("paths", lambda: paths(probe.model, probe.first_input, probe.layers))


def _refused(probe: Probe, why: Callable[[list[Path]], str | None]) -> dict[str, str]:
    """The layers for whose paths there is a reason."""
    found = {name: [p for p in _paths(probe) if p.name == name] for name in probe.layers}
    reasons = {name: why(of_layer) for name, of_layer in found.items()}
    return {
        name: f"{reason}; skip this layer or choose another scorer"
        for name, reason in reasons.items()
        if reason
    }


def _why_no_scale(found: list[Path]) -> str | None:
    norms = [path.norm for path in found]
    scales = {norm.scale for norm in norms if norm}
    if any(norm is None and path.forked for norm, path in zip(norms, found, strict=True)):
        return "has outputs that other operations read too, besides the first behind it"
    if not norms or None in norms:
        return "has no batch norm right behind it"
    if None in scales:
        return "has a batch norm without a scale (affine=False) behind it"
    return None if len(scales) == 1 else f"is used with {len(scales)} different batch norms"


def _why_no_zeros(found: list[Path]) -> str | None:
    for path in found:
        if path.activation is None and path.forked:
            return "has outputs that other operations read too, besides the first behind it"
        if path.activation is None:
            return "has no ReLU right behind it or its batch norm"
        if not path.activation.has_zeros:
            return f"has {path.activation.operation} behind it, which is hardly ever exactly zero"
    return None if found else "is never called"


def _activity(probe: Probe) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean size and share that is not zero of each layer's outputs: (outputs,) float64 each."""
    return probe.once("activity", lambda: _measure_activity(probe))


def _measure_activity(probe: Probe) -> dict[str, tuple[Tensor, Tensor]]:
    known = _paths(probe)
    sums = {  # of |a|, of a != 0, of 1
        name: torch.zeros(3, w.shape[0], dtype=torch.float64, device=w.device)
        for name, w in probe.weights.items()
    }

    def add(path: Path, values: Tensor) -> None:
        of_rows = sums[path.name][:, path.rows]
        of_rows[0] += values.abs().sum(1, dtype=torch.float64)
        of_rows[1] += values.count_nonzero(1)
        of_rows[2] += values.shape[1]

    for inputs, _ in probe.batches:
        measure(probe.model, inputs, known, add)
    for name, total in sums.items():
        check_finite(name, total[0], "activations")
    return {name: (t[0] / t[2].clamp(min=1), t[1] / t[2].clamp(min=1)) for name, t in sums.items()}
