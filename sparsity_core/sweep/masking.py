"""Masks to try a layer with, and what can be told of masks."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsity_core.weights import Masks, Prunable


def every_second(layer: Prunable, parameters: Mapping[str, Tensor]) -> Masks:
    """Masks of a layer and its biases that leave out every second weight."""
    shapes = [(n, parameters[n].shape) for n in (layer.name, *layer.biases)]
    return {name: (torch.arange(shape.numel()) % 2 == 0).view(shape) for name, shape in shapes}


def whole_outputs(mask: Tensor) -> bool:
    """Are the weights of each output either all there or all gone?"""
    rows = mask.flatten(1)
    return torch.equal(rows.any(1), rows.all(1))
