"""A second network that follows one under masks: a target network, or an average of weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparsity_core.weights import mask_


@torch.no_grad()
def follow_(
    follower: nn.Module, model: nn.Module, masks: Mapping[str, Tensor], keep: float = 0.0
) -> None:
    """Move a follower to keep x itself + (1 - keep) x model, under the model's masks.

    Without the masks an average would go on using weights that have died, and so be less sparse
    than any network it is an average of. Whole-number buffers are copied.
    """
    source = model.state_dict()
    for name, value in follower.state_dict().items():
        new = source[name].to(value.device)
        value.copy_(torch.lerp(new, value, keep) if value.is_floating_point() else new)
    mask_(follower, masks)
