"""What sparse training and its result cost on paper, counted as in the RigL paper.

Evci et al. 2020 (arXiv 1911.11134), appendix H, and the storage table of its code's README. Counts
from shapes alone; no time is measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Counted:
    """A layer: weights, those that live, for how many positions each is used, outputs in all."""

    size: int
    kept: int
    positions: int = 1  # of a convolution's output
    outputs: int = 0  # channels; each gives one number at each position


def inference_flops(layers: Iterable[Counted]) -> int:
    """Operations for one sample: two for each use of a living weight, one for each output."""
    return sum(
        2 * layer.kept * layer.positions + layer.outputs * layer.positions for layer in layers
    )


def storage_bytes(layers: Iterable[Counted], others: int = 0) -> float:
    """Four bytes for each living weight and other parameter, a bit for each place of a mask.

    A layer in which everything lives needs no mask.
    """
    layers = list(layers)
    places = sum(layer.size for layer in layers if layer.kept < layer.size)
    return 4 * (sum(layer.kept for layer in layers) + others) + places / 8


def training_flops(rule: str, sparse: float, dense: float, interval: int = 100) -> float:
    """Per sample and step on average, from what a forward pass takes sparse and dense.

    Of RigL a period is `interval` ordinary steps and one update, which needs dense gradients and
    makes no backward step. `snfs` is sparse networks from scratch (sparse momentum).
    """
    averages = {
        "dense": 3 * dense,
        "static": 3 * sparse,
        "set": 3 * sparse,
        "snfs": 2 * sparse + dense,
        "rigl": (3 * sparse * interval + 2 * sparse + dense) / (interval + 1),
    }
    return averages[rule]
