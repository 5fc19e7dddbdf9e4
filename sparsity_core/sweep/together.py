"""A linear layer at all levels of a sweep at once, and what comes behind it level by level."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparsity_core.sweep.nested import NestedLinear, survivals
from sparsity_core.sweep.onednn import Linear
from sparsity_core.sweep.program import Step, Suffix, Values, behind
from sparsity_core.weights import Masks

_WEIGHTS = range(1, 2**22)  # more take too much memory to pack
_ROWS = 1000  # samples (or tokens) x levels after the first: below, packing takes longer
_WORK = 3e8  # multiply-adds saved, or nearly: below, loading the kernel takes longer


@dataclass(frozen=True, eq=False)
class Together:
    """`own` makes the layer's values of all levels, `after` the model's output from one of them."""

    own: Step
    after: Suffix

    def __call__(self, dense: Values) -> list[Tensor]:
        """The model's output at each level."""
        return [self.after(dense | {self.own.name: value}) for value in self.own.run(dense)]


def pays(weights: int, levels: int, rows: int) -> bool:
    """Is one pass for all levels sooner done than a dense product for each?

    `rows`: samples, or tokens of all samples. Measured, see benchmarks/sweep.md.
    """
    saved = rows * (levels - 1)
    return weights in _WEIGHTS and saved >= _ROWS and weights * saved >= _WORK


def together(suffix: Suffix, layer: str, levels: Sequence[Masks]) -> Together | None:
    """The suffix for all levels at once; None unless it can be had so.

    It can where a fused float32 linear layer alone uses what is masked, and each mask lies within
    the one before it. Packs the weights as they are now.
    """
    users = [step for step in suffix.steps if layer in step.weights]
    call = users[0].call
    if len(users) != 1 or not isinstance(call, Linear) or call.dtype != torch.float32:
        return None
    variants = list(levels)  # of a sweep they are made when asked for
    if any(masks.keys() != {layer} for masks in variants):
        return None
    codes = survivals([masks[layer] for masks in variants])
    if codes is None:
        return None
    nested = NestedLinear(call.linear.weight, codes, len(variants), call.linear.bias)

    def run(x: Tensor, other: Tensor | None = None) -> Iterator[Tensor]:
        return (call.finished(level, other) for level in nested(x))

    return Together(replace(users[0], call=run), behind(suffix, users[0]))
