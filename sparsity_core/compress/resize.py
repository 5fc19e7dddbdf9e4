"""A model whose layers take the sizes of given tensors: same class, same names, smaller.

So a shrunk checkpoint is loaded into the architecture's own code: build the dense model, then
`resize_` it. What a forward pass needs besides shapes (groups, heads) are the settings.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError, unknown

Settings = Mapping[str, int]  # "module.path.groups" -> 4
_SETTABLE = ("groups", "heads", "num_heads")


@torch.no_grad()
def resize_(
    model: nn.Module, state: Mapping[str, Tensor], settings: Settings | None = None
) -> None:
    """Put tensors of any size in place of a model's own of the same names.

    A bias may be new. Raises SparsityError for names that the model does not have, tensors that
    it lacks, or settings other than groups and heads.
    """
    known = model.state_dict()
    for name in state:
        if name not in known and not _new_bias(model, name):
            raise unknown("tensor for this model", name, known)
    if absent := [name for name in known if name not in state]:
        raise SparsityError(f"{absent[0]}: the tensors for this model lack it; give a whole state")
    for name, size in (settings or {}).items():
        path, _, attribute = name.rpartition(".")
        if attribute not in _SETTABLE or not hasattr(_module(model, path), attribute):
            raise unknown("setting for this model", name, _SETTABLE)
        setattr(_module(model, path), attribute, size)
    for name, tensor in state.items():
        path, _, attribute = name.rpartition(".")
        _put_(_module(model, path), attribute, tensor)
    for module in model.modules():
        _count_(module)


def _put_(module: nn.Module, attribute: str, tensor: Tensor) -> None:
    own: Any = getattr(module, attribute)
    if own is not None and own.shape == tensor.shape:
        own.copy_(tensor)  # tied tensors stay tied
    elif attribute in module._parameters:
        gradient = own is None or own.requires_grad
        module._parameters[attribute] = nn.Parameter(tensor.clone(), requires_grad=gradient)
    else:
        module._buffers[attribute] = tensor.clone()


def _count_(module: nn.Module) -> None:
    """Set the sizes that torch's modules keep beside their tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
        sized = module.running_mean if module.running_mean is not None else module.weight
        if sized is not None:
            module.num_features = len(sized)


def _new_bias(model: nn.Module, name: str) -> bool:
    path, _, attribute = name.rpartition(".")
    try:
        module = _module(model, path)
    except AttributeError:
        return False
    return attribute == "bias" and isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))


def _module(model: nn.Module, path: str) -> nn.Module:
    return model.get_submodule(path)
