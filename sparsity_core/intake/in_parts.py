"""Weights that a file holds in parts: unpruned beside a mask, or as direction and length.

So torch.nn.utils.prune and weight_norm leave them in a state dict.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_core.intake.inert import Stored


@dataclass(frozen=True, eq=False)
class InParts:
    """A tensor that is made of others when it is read."""

    shape: tuple[int, ...]
    parts: tuple[Tensor | Stored, ...]
    make: Callable[..., Tensor]
    how: str


def put_together(
    named: Mapping[str, Tensor | Stored],
) -> dict[str, Tensor | Stored | InParts]:
    """The tensors of a set by the names that their layers have for them, those in parts whole."""
    whole: dict[str, Tensor | Stored | InParts] = dict(named)
    for name, large in named.items():
        for ending, other, make, how in _KINDS:
            base = name.removesuffix(ending)
            if base == name or f"{base}{other}" not in named:
                continue
            parts = (large, named[f"{base}{other}"])
            plain = base.replace("parametrizations.", "")
            whole[plain] = InParts(tuple(large.shape), parts, make, how)
            del whole[name], whole[f"{base}{other}"]
    return whole


def _masked(weight: Tensor, mask: Tensor) -> Tensor:
    return weight.masked_fill(mask == 0, 0)


def _of_length(direction: Tensor, length: Tensor) -> Tensor:
    """w = g v / |v|, a length for each entry of the one axis that `length` has (Salimans 2016)."""
    axes = [axis for axis, size in enumerate(length.shape) if size != 1]
    axis = axes[0] if axes else 0 if length.dim() else -1
    return direction * (length / torch.norm_except_dim(direction, 2, axis))


# The ending of what has the weight's shape, that of the other part, and what they make.
_KINDS = (
    ("_orig", "_mask", _masked, "torch.nn.utils.prune"),
    ("_v", "_g", _of_length, "weight_norm"),
    (".original1", ".original0", _of_length, "weight_norm"),
)
