"""How our kernels are compiled, called and spread over threads."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from numba import njit
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.kernel import Product

Function = Callable[..., Any]

# Compiled once for each CPU and kept on disk beside the source, or in numba's cache where that
# cannot be written; without Python's lock, so that threads run side by side.
compiled: Callable[[Function], Function] = njit(cache=True, nogil=True, error_model="numpy")


def check_threads(threads: int) -> None:
    """Raise SparsityError unless a kernel can run on so many threads."""
    if threads < 1:
        raise SparsityError(f"threads={threads}: a kernel needs 1 thread or more")


def spread_parts(function: Function, count: int, threads: int, *fixed: Any) -> None:
    """Call function(*fixed, first, end) for 0..count, cut into one even part a thread."""
    parts = even_parts(count, max(1, min(threads, count)))
    at_once(function, [(*fixed, *part) for part in parts])


def even_parts(count: int, parts: int) -> list[tuple[int, int]]:
    """0..count as so many pieces (first, end)."""
    return list(pairwise(count * i // parts for i in range(parts + 1)))


def at_once(function: Function, calls: Sequence[tuple[Any, ...]]) -> None:
    """Call a function with each of the arguments, a thread each.

    Waking Python's threads costs 20-50 us, so a second thread pays for products above 0.1 ms.
    """
    first, *rest = calls
    others = [_pool(len(calls)).submit(function, *one) for one in rest]
    function(*first)
    for other in others:
        other.result()


def side_by_side(function: Function, threads: int, *fixed: Any) -> None:
    """Call function(*fixed, meeting, part, threads) for each part at once, a thread each.

    The parts may wait for each other: `meeting` is the address of a number that is 0 at first, see
    `meeting.meet`.
    """
    if threads == 1:
        function(*fixed, 0, 0, 1)
        return
    # One caller at a time: two, each waiting for parts that the other's keep from a thread, would
    # wait for ever.
    with _one_caller:
        count, others = torch.zeros(1, dtype=torch.int64), []
        meeting = count.data_ptr()

        def run(part: int) -> None:
            try:
                function(*fixed, meeting, part, threads)
            except BaseException:
                count.fill_(_NOBODY)
                raise

        try:
            for part in range(1, threads):
                others.append(_pool(threads).submit(run, part))
            run(0)
        except BaseException:
            count.fill_(_NOBODY)
            raise
        finally:
            wait(others)  # they look at `count`
        for other in others:
            other.result()


_one_caller = threading.Lock()
_NOBODY = 1 << 62  # arrivals enough for all that wait: nobody is waited for


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, "kernel")


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


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


def by_samples(outputs: int, function: Function, count: int, threads: int, *fixed: Any) -> Product:
    """The product that calls function(x, y, *fixed, first, end) for up to 4 samples at a time.

    x and y are addresses (bytes), or tuples of 4 or 2 of them; more samples at once would not
    stay in registers. Tensors among `fixed` are kept alive and passed as addresses. `count` parts
    are spread over threads. For one sample the way there counts: 1 us of Python beside 10 us of
    work.
    """
    tensors = [one for one in fixed if isinstance(one, Tensor)]
    fixed = tuple(one.data_ptr() if isinstance(one, Tensor) else one for one in fixed)
    whole = (*fixed, 0, count)

    def run(x: Tensor, _held: object = tensors) -> Tensor:
        x = x.contiguous()
        samples, inputs = x.shape
        y = torch.empty(samples, outputs)
        source, target = x.data_ptr(), y.data_ptr()
        if samples == threads == 1:
            function(source, target, *whole)
            return y
        wide, high = 4 * inputs, 4 * outputs

        def part(first: int, end: int) -> None:
            done = 0
            while done < samples:
                left = samples - done
                take = 4 if left >= 4 else 2 if left >= 2 else 1
                sources: Any = source + done * wide
                targets: Any = target + done * high
                if take > 1:
                    sources = tuple(range(sources, sources + take * wide, wide))
                    targets = tuple(range(targets, targets + take * high, high))
                function(sources, targets, *fixed, first, end)
                done += take

        spread_parts(part, count, threads)  # all samples in each: threads are woken once
        return y

    return run
