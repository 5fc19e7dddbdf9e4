"""From which sparsity a kernel is ahead of dense."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from sparsity_core.kernels.row import KernelRow


def break_even(rows: Iterable[KernelRow]) -> dict[tuple[str, int, str], float | None]:
    """(kernel, batch, cache) -> the sparsity from which it stays ahead of dense, for one shape.

    Interpolated between the measured sparsities in the logarithm of the speedup. The lowest
    measured one where the kernel is ahead throughout; None where it is behind at the highest.
    """
    lines: dict[tuple[str, int, str], list[tuple[float, float]]] = {}
    for row in rows:
        if row.speedup_vs_dense:
            point = (row.sparsity, row.speedup_vs_dense)
            lines.setdefault((row.kernel, row.batch, row.cache), []).append(point)
    return {key: _crossing(sorted(line)) for key, line in lines.items()}


def _crossing(line: Sequence[tuple[float, float]]) -> float | None:
    if line[-1][1] < 1:
        return None
    for (below, behind), (above, ahead) in reversed(list(pairwise(line))):
        if behind < 1:
            low, high = math.log(behind), math.log(ahead)
            return below + (above - below) * low / (low - high)
    return line[0][0]
