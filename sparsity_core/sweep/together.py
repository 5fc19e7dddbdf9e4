"""A linear layer at all levels of a sweep at once, and what comes behind it level by level."""

from collections.abc import Mapping, Sequence
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
    """`own` makes the layer's values (levels, ...), `after` the model's output from one of them.

    Or from all levels `side_by_side`, as if they were more samples: fewer and larger products.
    """

    own: Step
    after: Suffix
    side_by_side: bool

    def __call__(self, dense: Values) -> list[Tensor]:
        """The model's output at each level."""
        values = self.own.run(dense)
        if self.side_by_side:
            outputs: Tensor = self.after({self.own.name: values.flatten(0, 1)})
            return list(outputs.unflatten(0, (len(values), -1)))
        return [self.after(dense | {self.own.name: value}) for value in values]


def pays(weights: int, levels: int, rows: int) -> bool:
    """Is one pass for all levels sooner done than a dense product for each?

    `rows`: samples, or tokens of all samples. Measured, see benchmarks/sweep.md.
    """
    saved = rows * (levels - 1)
    return weights in _WEIGHTS and saved >= _ROWS and weights * saved >= _WORK


def together(
    suffix: Suffix, layer: str, levels: Sequence[Masks], axes: Mapping[str, int]
) -> Together | None:
    """The suffix for all levels at once; None unless it can be had so.

    It can where a fused float32 linear layer alone uses what is masked, and each mask lies within
    the one before it. Packs the weights as they are now. `axes`: of the samples, where batches may
    be cut and joined, by the names of the values.
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

    def run(x: Tensor, other: Tensor | None = None) -> Tensor:
        return call.finished(nested(x), other)

    own, after = replace(users[0], call=run), behind(suffix, users[0])
    return Together(own, after, after.needs == {own.name} and axes.get(own.name) == 0)
