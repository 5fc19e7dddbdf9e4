"""How much arithmetic a sweep cannot avoid, and how fast this machine does arithmetic at all."""

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sparsity_core.trace import Use, single_products, watch


def suffix_flops(model: nn.Module, sample: Tensor) -> dict[str, float]:
    """Of each layer: what runs from its first use on, itself included, for one sample.

    By the order of execution, so a branch beside the layer that runs after it counts as well.
    """
    products = _products(model, sample)
    starts: dict[str, int] = {}
    for place, (_, name) in enumerate(products):
        if name is not None:
            starts.setdefault(name, place)
    return {name: sum(f for f, _ in products[start:]) for name, start in starts.items()}


def peak_flops(size: int = 1024, repeats: int = 9) -> float:
    """Per second of this thread: the best of some products of two square float32 matrices."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        a @ b
        times.append(time.thread_time() - started)
    return 2 * size**3 / min(times)


def _products(model: nn.Module, sample: Tensor) -> list[tuple[float, str | None]]:
    """Every product in order: its operations, and the layer whose weight is in it."""
    found: list[tuple[float, str | None]] = []

    def seen(use: Use) -> None:
        found[-1] = (found[-1][0], use.name)

    with torch.no_grad(), watch(model, seen), single_products(), _Count(found):
        model(sample)
    return found


class _Count(TorchDispatchMode):
    def __init__(self, found: list[tuple[float, str | None]]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if flops := flop_registry.get(func.overloadpacket):
            # Before the call: `watch` stands outside and speaks of it during the call.
            self.found.append((0.0, None))
            out = func(*args, **kwargs)
            self.found[-1] = (float(flops(*args, **kwargs, out_val=out)), self.found[-1][1])
            return out
        return func(*args, **kwargs)
