"""Hidden units taken out of torch's own transformer layers, which a captured program cannot see.

`linear2(activation(linear1(x)))` stands in the code of nn.TransformerEncoderLayer and
nn.TransformerDecoderLayer, so what becomes of a hidden unit is known without following it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_core.compress.resize import resize_

_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_POINTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU)


@torch.no_grad()
def take_hidden_out_(model: nn.Module) -> dict[str, Tensor]:
    """Take out hidden units that nothing makes, or nobody reads, in place; one has to stay.

    A unit whose weights are all zero is constant by its bias: its share goes into the bias behind
    it. Returns where in the flat tensors before lies what is left, by parameter name.
    """
    places: dict[str, Tensor] = {}
    for path, layer in model.named_modules():
        if type(layer) in _LAYERS and _is_plain(layer):
            places |= _take_out_(model, f"{path}." if path else "", layer)
    return places


def _is_plain(layer: Any) -> bool:
    """Is the hidden part as torch writes it, with a bias to take constants over?"""
    pointwise = layer.activation in (F.relu, F.gelu) or type(layer.activation) in _POINTWISE
    linear = all(type(module) is nn.Linear for module in (layer.linear1, layer.linear2))
    return pointwise and linear and layer.linear2.bias is not None


def _take_out_(model: nn.Module, prefix: str, layer: Any) -> dict[str, Tensor]:
    makes, reads = layer.linear1.weight, layer.linear2.weight  # (hidden, width), (width, hidden)
    constant, unread = (makes == 0).all(1), (reads == 0).all(0)
    idle = constant | unread
    if idle.all():
        idle[0] = False
    if not idle.any():
        return {}
    stays = ~idle
    bias = layer.linear1.bias
    level = layer.activation(torch.zeros(len(makes)) if bias is None else bias).double()
    share = reads[:, idle & constant].double() @ level[idle & constant]
    layer.linear2.bias.copy_(layer.linear2.bias.double() + share)
    cuts: dict[str, Any] = {"linear1.weight": stays, "linear2.weight": (slice(None), stays)}
    if bias is not None:
        cuts["linear1.bias"] = stays
    state, places = dict(model.state_dict()), {}
    for name, cut in cuts.items():
        whole = state[prefix + name]
        state[prefix + name] = whole[cut]
        places[prefix + name] = torch.arange(whole.numel()).reshape(whole.shape)[cut]
    resize_(model, state)
    return places
