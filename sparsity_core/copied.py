"""A copy of a model, whatever its forward pass has left in it."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Model = TypeVar("Model", bound=nn.Module)


def copied(model: Model, known: Mapping[int, Any] | None = None) -> Model:
    """A deep copy; `known` stands for objects by their id, as in `copy.deepcopy`.

    torch refuses to copy what was computed with a gradient in view, such as an attention map that a
    module keeps to be looked at, or the weight that torch.nn.utils.prune makes anew in each pass:
    of these the numbers alone are copied. Two parameters over one memory become one: torch would
    give each its own, and a mask of one would no longer be seen by the other.
    """
    computed = {
        id(found): found.detach().clone()
        for module in model.modules()
        for found in tree_leaves(vars(module))
        if isinstance(found, Tensor) and not found.is_leaf
    }
    tied = tied_parameters(model, lambda weight: weight.detach().clone())
    return copy.deepcopy(model, computed | tied | dict(known or {}))


def tied_parameters(
    model: nn.Module, values: Callable[[nn.Parameter], Tensor], *, alone: bool = False
) -> dict[int, nn.Parameter]:
    """New parameters by the ids of the model's own, one for all that share their memory.

    `values` gives the numbers of each. With `alone` also for those that share it with none.
    """
    sharing: dict[tuple[object, ...], list[nn.Parameter]] = {}
    for weight in model.parameters():
        sharing.setdefault(memory_of(weight), []).append(weight)
    found: dict[int, nn.Parameter] = {}
    for same in sharing.values():
        if alone or len(same) > 1:
            made = nn.Parameter(values(same[0]), same[0].requires_grad)
            found |= {id(weight): made for weight in same}
    return found


def memory_of(parameter: Tensor) -> tuple[object, ...]:
    """What makes two parameters the same memory: also two Parameter objects over one storage."""
    if parameter.numel() == 0 or parameter.is_meta:
        return (id(parameter),)
    return (parameter.data_ptr(), tuple(parameter.shape), parameter.stride())
