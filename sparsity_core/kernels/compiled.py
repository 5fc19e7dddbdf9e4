"""How our kernels are compiled, called and spread over threads."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from numba import njit
from torch import Tensor

from sparsity_core.errors import SparsityError

Function = Callable[..., Any]

# Compiled once for each CPU and kept on disk beside the source, or in numba's cache where that
# cannot be written; without Python's lock, so that threads run side by side.
compiled: Callable[[Function], Function] = njit(cache=True, nogil=True, error_model="numpy")


def check_threads(threads: int) -> None:
    """Raise SparsityError unless a kernel can run on so many threads."""
    if threads < 1:
        raise SparsityError(f"threads={threads}: a kernel needs 1 thread or more")


def spread_parts(function: Function, count: int, threads: int, *fixed: Any) -> None:
    """Call function(*fixed, first, end) for 0..count, cut into one even part a thread.

    Waking Python's threads costs 20-50 us, so a second thread pays for products above 0.1 ms.
    """
    if threads == 1 or count < 2:
        function(*fixed, 0, count)
        return
    threads = min(threads, count)
    edges = [count * i // threads for i in range(threads + 1)]
    others = [
        _pool(threads).submit(function, *fixed, edges[i], edges[i + 1]) for i in range(1, threads)
    ]
    function(*fixed, 0, edges[1])
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, "kernel")


def scratch(size: int) -> int:
    """The address of so many bytes of this thread's own, on a cache line; the next call has them.

    Memory asked for anew in each call would cost a page fault every 4 KiB.
    """
    held = getattr(_scratch, "bytes", None)
    if held is None or held.numel() < size + 64:
        held = _scratch.bytes = torch.empty(size + 64, dtype=torch.uint8)
    return -(-int(held.data_ptr()) // 64) * 64


_scratch = threading.local()


def padded_bias(bias: Tensor | None, outputs: int, multiple: int = 16) -> Tensor:
    """The bias, or zeros, up to a multiple of outputs."""
    padded = torch.zeros(-(-outputs // multiple) * multiple)
    if bias is not None:
        padded[:outputs] = bias
    return padded


def by_samples(x: Tensor, outputs: int, product: Callable[[Any, Any], None]) -> Tensor:
    """A new (samples, outputs) tensor that `product` fills from a contiguous (samples, inputs).

    It is called with addresses (bytes): two tuples of 4 or 2 samples, or two plain ones for the
    last; more than 4 samples at once would not stay in registers.
    """
    x = x.contiguous()
    y = torch.empty(len(x), outputs)
    source, target, left = x.data_ptr(), y.data_ptr(), len(x)
    wide, high = 4 * x.shape[1], 4 * outputs
    while left > 1:
        take = 4 if left >= 4 else 2
        product(
            tuple(range(source, source + take * wide, wide)),
            tuple(range(target, target + take * high, high)),
        )
        source, target, left = source + take * wide, target + take * high, left - take
    if left:
        product(source, target)
    return y
