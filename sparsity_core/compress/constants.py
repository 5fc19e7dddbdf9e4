"""Which channels are the same number for every input, and which number."""

from typing import Any

import torch
from torch import Tensor

from sparsity_core.compress.channels import Flow


def made(module: Any, flow: Flow, padded: bool, groups: int) -> Tensor:
    """What each output of a layer is worth where it is constant; NaN elsewhere."""
    weight = module.weight.double().flatten(1).unflatten(1, (module.weight.shape[1], -1))
    rows = len(weight) // groups
    inputs = flow.constants.reshape(groups, -1).repeat_interleave(rows, 0)  # as each row sees them
    plain = (inputs == 0) if padded else ~inputs.isnan()
    fixed = (plain | (weight == 0).all(2)).all(1)
    value = (weight.sum(2) * inputs.nan_to_num(0)).sum(1)
    if module.bias is not None:
        value = value + module.bias.double()
    return value.where(fixed, torch.nan)


def uniform(value: Tensor, axis: int, fixed: Tensor) -> Tensor:
    """What each channel is worth where it is fixed and the same at all places; NaN elsewhere."""
    rows = value.movedim(axis, 0).flatten(1).double()
    same = (rows == rows[:, :1]).all(1) & fixed
    return rows[:, 0].where(same, torch.nan)
