"""Parameters of a model under masks, for a while; and what can be told of masks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from sparsity_core.weights import Masks, Prunable


@contextmanager
def masked(parameters: Mapping[str, Tensor], masks: Masks) -> Iterator[None]:
    """Parameters under masks while the context is open, as `comparison.masked` has a model.

    That one looks for the parameters each time, which takes longer than a small layer runs.
    """
    saved = {name: parameters[name].detach().clone() for name in masks}
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].masked_fill_(~mask.to(parameters[name].device), 0)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, weight in saved.items():
                parameters[name].copy_(weight)


def every_second(layer: Prunable, parameters: Mapping[str, Tensor]) -> Masks:
    """Masks of a layer and its biases that leave out every second weight."""
    shapes = [(n, parameters[n].shape) for n in (layer.name, *layer.biases)]
    return {name: (torch.arange(shape.numel()) % 2 == 0).view(shape) for name, shape in shapes}


def whole_outputs(mask: Tensor) -> bool:
    """Are the weights of each output either all there or all gone?"""
    rows = mask.flatten(1)
    return torch.equal(rows.any(1), rows.all(1))
