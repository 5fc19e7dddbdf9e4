"""Is a pruned model fit to be deployed? Accuracy and speed, measured, against what is asked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.export.pruned import Pruned, shrunk, speeds
from sparsity_core.kernels import sparsify
from sparsity_core.kernels.timing import Times
from sparsity_core.units import PER_CENT, unit_of

DENSE = "dense"


@dataclass(frozen=True)
class Requirements:
    """What a model has to reach; None asks nothing."""

    max_drop: float | None = None  # in points of a metric that is a share, else in its number
    min_speedup: float | None = None  # over the dense model
    confident: bool = False  # the whole 95 % interval has to be within `max_drop`
    batch: int = 1  # samples a forward pass whose time is taken
    threads: int = 1

    def __post_init__(self) -> None:
        if self.max_drop is None and self.min_speedup is None:
            raise SparsityError("nothing is asked; give --max-drop, --min-speedup or both")
        if self.min_speedup is not None and not 0 < self.min_speedup < float("inf"):
            raise SparsityError(f"min-speedup must be more than 0, got {self.min_speedup}")
        if self.max_drop is not None and not abs(self.max_drop) < float("inf"):
            raise SparsityError(f"max-drop must be a number, got {self.max_drop}")
        if self.batch < 1 or self.threads < 1:
            raise SparsityError("batch and threads must be 1 or more")


@dataclass(frozen=True)
class Finding:
    """One requirement and what was measured."""

    what: str
    asked: str
    measured: str
    met: bool


def check(pruned: Pruned, asked: Requirements) -> list[Finding]:
    """Measure what is asked; the model may be deployed when every finding is met.

    Speed is that of the quickest way to run the model here: on packed weights (`sparsify`) or with
    its idle channels taken out (`shrink`), all taken in turns with the dense model.
    """
    findings = []
    if asked.max_drop is not None:
        findings.append(_drop(pruned, asked.max_drop, asked.confident))
    if asked.min_speedup is not None:
        findings.append(_speedup(pruned, asked, asked.min_speedup))
    return findings


def _drop(pruned: Pruned, most: float, confident: bool) -> Finding:
    found, name = pruned.comparison, pruned.task.metric.name
    unit = unit_of(name)
    high = math.inf if found.drop_high is None else found.drop_high
    what = "upper end of the drop's 95 % interval" if confident else "drop"
    return Finding(
        what=f"{what} of {name}",
        asked=f"at most {most:g}{' points' if unit is PER_CENT else ' worse'}",
        measured=(
            f"{unit.change(found.drop)}, {unit.interval(found.drop_low, found.drop_high)}: "
            f"{unit.said(found.dense_value)} dense, {unit.said(found.value)} pruned, "
            f"{found.samples:,} {pruned.split} samples"
        ),
        met=unit.scale * (high if confident else found.drop) <= most,
    )


def _speedup(pruned: Pruned, asked: Requirements, least: float) -> Finding:
    models, refused = _ways(pruned, asked)
    inputs = pruned.task.split(pruned.split).inputs[: asked.batch]
    times = speeds({DENSE: pruned.task.model, **models}, inputs, threads=asked.threads)
    ratio = {name: times[DENSE].p50 / times[name].p50 for name in models}
    best = max(ratio, key=lambda name: ratio[name], default="")
    told = "; ".join([f"{name} {_said(times, name)}" for name in (DENSE, *models)] + refused)
    return Finding(
        what="speedup",
        asked=f"at least {least:g}x",
        measured=(
            f"{ratio[best]:.2f}x by {best}; {told}; batch {len(inputs)}, "
            f"{asked.threads} thread{'s' if asked.threads > 1 else ''}, in turns"
            if best
            else f"no way to run it smaller; {told}"
        ),
        met=bool(best) and ratio[best] >= least,
    )


def _ways(pruned: Pruned, asked: Requirements) -> tuple[dict[str, nn.Module], list[str]]:
    """The ways to run the pruned model, and why one is not there."""
    models: dict[str, nn.Module] = {}
    refused = []
    inputs = pruned.task.split(pruned.split).inputs[: asked.batch]
    try:
        models["shrink"] = shrunk(pruned).model
    except SparsityError as error:
        refused.append(f"shrink: {error}")
    weights = {name: mask for name, mask in pruned.masks.items() if mask.dim() > 1}
    try:
        models["sparsify"] = sparsify(pruned.model, weights, sample=inputs, threads=asked.threads)
    except SparsityError as error:
        refused.append(f"sparsify: {error}")
    return models, refused


def _said(times: Mapping[str, Times], name: str) -> str:
    found = times[name]
    return f"{found.p50 * 1e3:.3g} ms ({found.p20 * 1e3:.3g} to {found.p80 * 1e3:.3g})"
