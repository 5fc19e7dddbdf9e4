"""A copy of a model, whatever its forward pass has left in it."""

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Model = TypeVar("Model", bound=nn.Module)


def copied(model: Model, known: Mapping[int, Any] | None = None) -> Model:
    """A deep copy; `known` stands for objects by their id, as in `copy.deepcopy`.

    torch refuses to copy what was computed with a gradient in view, such as an attention map that a
    module keeps to be looked at, or the weight that torch.nn.utils.prune makes anew in each pass:
    of these the numbers alone are copied.
    """
    computed = {
        id(found): found.detach().clone()
        for module in model.modules()
        for found in tree_leaves(vars(module))
        if isinstance(found, Tensor) and not found.is_leaf
    }
    return copy.deepcopy(model, computed | dict(known or {}))
