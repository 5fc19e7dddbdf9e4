"""Few different numbers of samples at a time, and none too small.

oneDNN compiles an operator for each number that is new, for about 1 ms.
"""

import torch
from torch import Tensor

# Samples. So many have the bits that they have in a batch of 512, on six models; with 8, on half of
# them. Where the bits differ, what is in doubt must be asked again in whole batches.
LEAST = 16


def rounded_up(samples: int) -> int:
    """The next power of two."""
    return max(LEAST, 1 << (samples - 1).bit_length())


def filled_up(numbers: Tensor, count: int) -> Tensor:
    """Numbers of samples (n,), the last one repeated until there are so many."""
    return torch.cat([numbers, numbers[-1:].expand(count - len(numbers))])
