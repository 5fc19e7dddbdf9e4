"""Memory that is free again leaves the process."""

import ctypes
import sys

import psutil
import pytest
import torch

from sparsity_core.sweep.heap import give_back

BLOCK, BLOCKS = 2**16, 1000


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="the allocator is not glibc's",
)
def test_what_the_allocator_keeps_goes_back():
    def held() -> int:
        return psutil.Process().memory_info().rss

    blocks = [torch.ones(BLOCK, dtype=torch.uint8) for _ in range(BLOCKS)]
    last = blocks.pop()  # what lies below a block in use is not given back by itself
    del blocks
    before = held()
    give_back()
    assert before - held() > BLOCK * BLOCKS // 2
    assert last.all()
