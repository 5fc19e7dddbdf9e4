"""Weights that a model makes anew in each pass out of others, made plain as they are at inference.

So a model that torch.nn.utils.prune, weight_norm, spectral_norm or a parametrization is at work in
has the weights that its layers multiply with, which can be pruned and stored.
"""

from typing import Any

from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm


def plain_weights_(model: nn.Module) -> dict[str, str]:
    """Make every such weight of a model in evaluation mode plain; their names, and what made each.

    In place; the model answers as before.
    """
    found: dict[str, str] = {}
    for path, module in model.named_modules():
        for hook in list(module._forward_pre_hooks.values()):
            if made := _made_plain_(module, hook):
                found[f"{path}.{made[0]}".lstrip(".")] = made[1]
        if parametrize.is_parametrized(module):
            for name, makers in list(module.parametrizations.items()):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
                if not makers.is_tensor and name in module._buffers:
                    # Made of several that need no gradient: torch takes it for a buffer.
                    value = module._buffers.pop(name)
                    module.register_parameter(name, nn.Parameter(value, requires_grad=False))
                kinds = ", ".join(type(maker).__name__.strip("_") for maker in makers)
                found[f"{path}.{name}".lstrip(".")] = kinds
    return found


def _made_plain_(module: nn.Module, hook: Any) -> tuple[str, str] | None:
    """The name of the weight that a hook made, and what did; None for a hook of another kind."""
    if isinstance(hook, prune.BasePruningMethod):
        prune.remove(module, hook._tensor_name)
        return hook._tensor_name, "torch.nn.utils.prune"
    if isinstance(hook, WeightNorm):
        remove_weight_norm(module, hook.name)
        return hook.name, "weight_norm"
    if isinstance(hook, SpectralNorm):
        remove_spectral_norm(module, hook.name)
        return hook.name, "spectral_norm"
    return None
