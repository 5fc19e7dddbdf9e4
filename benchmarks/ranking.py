"""How much sooner does one partition give the masks of nine levels than a choice for each level?

python -m benchmarks.ranking --units 100_000_000
"""

import argparse
import time

import torch

from sparsity_core.machine import device_label
from sparsity_core.selection import count_pruned, keep_best, rank_codes

LEVELS = tuple(level / 10 for level in range(1, 10))


def main() -> None:
    """Print the seconds of this thread, one run each, after checking that all masks are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=10_000_000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    units = torch.randn(chosen.units, generator=torch.Generator().manual_seed(0)).abs_()
    pruned = [count_pruned(len(units), level) for level in LEVELS]
    started = time.thread_time()
    codes = rank_codes(units, pruned)
    coded = time.thread_time() - started
    chosen_each = sorted_each = 0.0
    for level, gone in enumerate(pruned):
        started = time.thread_time()
        mask = keep_best(units, gone)
        chosen_each += time.thread_time() - started
        if not torch.equal(codes > level, mask):
            raise SystemExit(f"{LEVELS[level]}: the masks differ")
    started = time.thread_time()
    torch.zeros_like(units, dtype=torch.bool)[units.topk(len(units) - pruned[4]).indices] = True
    sorted_each = (time.thread_time() - started) * len(LEVELS)
    print(
        f"{device_label('cpu')}; {len(units):,} units, {len(LEVELS)} levels: rank codes "
        f"{coded:.2f} s, a choice for each {chosen_each:.2f} s, topk for each {sorted_each:.2f} s"
    )


if __name__ == "__main__":
    main()
