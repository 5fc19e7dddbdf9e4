"""Few numbers of samples, as oneDNN compiles an operator for each that is new, for about 1 ms."""

import torch
from torch import Tensor

_LEAST = 8  # samples: below, calling an operator takes longer than its work


def rounded_up(samples: int) -> int:
    """The next power of two."""
    return max(_LEAST, 1 << (samples - 1).bit_length())


def filled_up(numbers: Tensor, count: int) -> Tensor:
    """Numbers of samples (n,), the last one repeated until there are so many."""
    return torch.cat([numbers, numbers[-1:].expand(count - len(numbers))])
