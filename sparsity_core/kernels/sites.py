"""Where in a model the masked weights are used, and what enters there."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sparsity_core.kernels.choice import why_dense


@dataclass(frozen=True, eq=False)
class Site:
    """A module that has a masked weight of its own."""

    path: str
    module: nn.Module
    name: str  # of the weight


def sites(model: nn.Module, names: Collection[str]) -> list[Site]:
    """Wherever a weight of these names is a module's own.

    A weight that several modules share comes once with each of them.
    """
    wanted = {id(p): name for name, p in model.named_parameters() if name in names}
    return [
        Site(path, module, wanted[id(parameter)])
        for path, module in model.named_modules()
        for parameter in module._parameters.values()
        if parameter is not None and id(parameter) in wanted
    ]


def inputs_of(model: nn.Module, sample: Tensor) -> dict[str, Tensor]:
    """What each Linear and Conv2d is first given in a forward pass, by path."""
    found: dict[str, Tensor] = {}

    def noting(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def note(_module: nn.Module, given: tuple[Any, ...]) -> None:
            found.setdefault(path, given[0].detach())

        return note

    hooks = [
        module.register_forward_pre_hook(noting(path))
        for path, module in model.named_modules()
        if why_dense(module) is None
    ]
    try:
        model(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return found
