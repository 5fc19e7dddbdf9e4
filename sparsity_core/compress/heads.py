"""Attention heads without values taken out of hand-written attention.

How many heads there are stands in a module's own code, so a head can go only where that code takes
the number from an attribute and the width from its tensors. That is tried, and where it fails the
model is left as it was and the reason told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.compress.resize import resize_
from sparsity_core.copied import copied
from sparsity_core.weights import Prunable, prunable

_FIXED = "nn.MultiheadAttention makes heads x width of a head equal to the width of its input"


@dataclass(eq=False)
class Heads:
    """What became of attention heads."""

    settings: dict[str, int] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)  # modules with idle heads that stay -> why
    places: dict[str, Tensor] = field(default_factory=dict)  # what is left of a weight, flat


@torch.no_grad()
def take_heads_out_(model: nn.Module, sample: Tensor, tolerance: float) -> Heads:
    """Take the heads whose values (rows and bias) are all zero out of a model, in place."""
    found = Heads()
    for name, layer in prunable(model).items():
        if not layer.heads:
            continue
        idle = _idle(model, layer)
        if idle.all():
            idle[0] = False  # one has to stay
        if not idle.any():
            continue
        path = name.rpartition(".")[0]
        if layer.kind == "attention":
            found.kept[path] = f"{int(idle.sum())} of its heads are idle and stay: {_FIXED}"
        elif why := _take_out_(model, layer, ~idle, sample, tolerance, found):
            found.kept[path] = f"{int(idle.sum())} of its heads are idle and stay: {why}"
    return found


def _idle(model: nn.Module, layer: Prunable) -> Tensor:
    """(heads,): True where a head's values are zero for every input."""
    values = model.get_parameter(layer.name).chunk(3)[2].reshape(layer.heads, -1)
    idle = (values == 0).all(1)
    for bias in layer.biases:
        idle &= (model.get_parameter(bias).chunk(3)[2].reshape(layer.heads, -1) == 0).all(1)
    return idle


def _take_out_(
    model: nn.Module, layer: Prunable, stay: Tensor, sample: Tensor, tolerance: float, found: Heads
) -> str:
    """Take heads out of one module; returns why not, and then changes nothing."""
    path = layer.name.rpartition(".")[0]
    parent, _, own = path.rpartition(".")
    width = layer.shape[0] // 3
    readers = [
        name
        for name, module in model.get_submodule(parent).named_children()
        if type(module) is nn.Linear and name != own and module.in_features == width
    ]
    owner = model.get_submodule(parent)
    attribute = "num_heads" if hasattr(owner, "num_heads") else "heads"
    if len(readers) != 1:
        return f"beside it are {len(readers)} layers that could read them, and not one"
    prefix = f"{parent}." if parent else ""
    rows = stay.repeat_interleave(width // layer.heads)
    cut = {layer.name: rows.repeat(3), **dict.fromkeys(layer.biases, rows.repeat(3))}
    reader = f"{prefix}{readers[0]}.weight"
    state: dict[str, Any] = dict(model.state_dict())
    places = {name: torch.arange(state[name].numel()).reshape(state[name].shape) for name in cut}
    places = {name: places[name][kept] for name, kept in cut.items()}
    places[reader] = torch.arange(state[reader].numel()).reshape(state[reader].shape)[:, rows]
    for name, kept in places.items():
        state[name] = state[name].flatten()[kept]
    settings = {f"{prefix}{attribute}": int(stay.sum())}
    tried = copied(model)
    try:
        resize_(tried, state, settings)
        difference = float((tried(sample) - model(sample)).abs().max())
    except Exception as error:  # noqa: BLE001 - a model is anybody's code
        return f"its code does not run with fewer ({type(error).__name__}: {str(error)[:120]})"
    if not difference <= tolerance:
        return f"with fewer its code gives other outputs (by {difference:.3g})"
    resize_(model, state, settings)
    found.settings |= settings
    found.places |= places
    return ""


def whole_places(state: Mapping[str, Tensor], cut: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For each tensor, where its numbers lay in the model before heads were taken out."""
    return {
        name: cut.get(name, torch.arange(tensor.numel()).reshape(tensor.shape))
        for name, tensor in state.items()
    }
