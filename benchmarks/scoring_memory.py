"""How much memory each scorer holds at its peak, in multiples of the weights.

For a model of three square linear layers (27 million weights, 108 MB): all layers at once on the
probe's own copy of the model, and one layer after another on the model itself, which is how a
model larger than half of the memory is scored. Each number comes from a fresh process: the peak of
its resident memory above what it held with the model loaded. Linux only.

    python -m benchmarks.scoring_memory
"""

import argparse
import multiprocessing
from pathlib import Path

import torch
from torch import nn

from sparsity_core.machine import versions
from sparsity_core.probe import Batch, Probe
from sparsity_core.scorers import SCORERS

LAYERS, SAMPLES = 3, 4


def model_and_batches(width: int) -> tuple[nn.Module, list[Batch]]:
    """Linear layers with norms and ReLUs behind them, so that every scorer has what it needs."""
    torch.manual_seed(0)
    layers = []
    for _ in range(LAYERS):
        layers += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers).eval(), [
        (torch.randn(SAMPLES, width), torch.randint(width, (SAMPLES,)))
    ]


def peak(kind: str, one_by_one: bool, width: int) -> float:
    """The peak of scoring in this very process, in multiples of the weights."""
    scorer = SCORERS.make(kind)
    warm = Probe(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()), [_small()])
    scorer.score(warm)  # libraries and their buffers are not the scorer's memory
    model, batches = model_and_batches(width)
    Path("/proc/self/clear_refs").write_text("5")  # forget earlier peaks
    before = _kilobytes("VmRSS")
    if one_by_one:
        probe = Probe(model, batches, own_copy=False)
        for name in probe.layers:
            scorer.score(probe.only([name]))
    else:
        scorer.score(Probe(model, batches))
    return (_kilobytes("VmHWM") - before) * 1024 / (4 * LAYERS * width**2)


def main() -> None:
    """Print the table, each number from its own process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=3000, help="of the layers; default 3000")
    width = parser.parse_args().width
    print(f"{versions()}; peak of memory while scoring, in multiples of the weights")
    print(f"{'scorer':22}{'at once':>10}{'stated':>10}{'one by one':>12}")
    for kind in SCORERS:
        at_once, apart = measured(kind, False, width), measured(kind, True, width)
        stated = SCORERS.make(kind).memory
        print(f"{kind:22}{at_once:>10.1f}{stated:>10g}{apart:>12.1f}", flush=True)


def measured(kind: str, one_by_one: bool, width: int) -> float:
    """The peak of a scorer in a process of its own, forked from one that has only imported."""
    fresh = multiprocessing.get_context("forkserver")
    fresh.set_forkserver_preload(["benchmarks.scoring_memory"])  # 2.5 s of imports, once for all
    with fresh.Pool(1) as pool:
        return pool.apply(peak, (kind, one_by_one, width))


def _small() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(4, 8), torch.randint(8, (4,))


def _kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
