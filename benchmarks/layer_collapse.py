"""How far can a network be pruned at initialisation before a layer is empty?

Tanaka et al. 2020 (arXiv 2006.05467), VGG-16-BN: magnitude in one shot empties a layer between
10^2.75 and 10^3 fold compression, SynFlow in 100 rounds of exponential schedule keeps weights in
every layer up to 10^5.75, of 10^6.02 that are possible at all. No training and no data.

    python -m benchmarks.layer_collapse
"""

import argparse
import time

import torch
from torch import nn

from benchmarks.vgg16 import vgg16_bn
from sparsity_core.allocations import Global
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.schedules import OneShot, Schedule, SynFlowExponential
from sparsity_core.scorers import Magnitude, Scorer, SynFlow
from sparsity_core.weights import Masks


def kept(model: nn.Module, scorer: Scorer, schedule: Schedule, power: float) -> dict[str, int]:
    """How many weights each layer keeps at a compression of 10^power."""
    recipe = Recipe(scorer=scorer, allocation=Global(), schedule=schedule)
    batch = (torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.long))  # only its shape is seen
    masks: Masks = {}
    for target in schedule.targets(1 - 10**-power):
        masks = prune(Probe(model, [batch], masks=masks), recipe, target).masks
    return {name: int(mask.sum()) for name, mask in masks.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--powers", default="1,2,3,5.75", help="for SynFlow; default 1,2,3,5.75")
    chosen = parser.parse_args()
    model = vgg16_bn(seed=chosen.seed)
    sizes = [layer.size for layer in Probe(model).layers.values()]
    for power in (1, 2, 2.5, 2.75, 3):
        _print("magnitude, one shot", power, kept(model, Magnitude(), OneShot(), power), sizes)
    for power in map(float, chosen.powers.split(",")):
        started = time.perf_counter()
        found = kept(model, SynFlow(), SynFlowExponential(), power)
        _print("synflow, 100 rounds", power, found, sizes)
        print(f"  {time.perf_counter() - started:.0f} s")


def _print(what: str, power: float, found: dict[str, int], sizes: list[int]) -> None:
    shares = " ".join(f"{n / size:.3g}" for n, size in zip(found.values(), sizes, strict=True))
    empty = sum(n == 0 for n in found.values())
    weights = sum(found.values())
    print(f"{what}, 10^{power:g}: {weights} weights, {empty} empty layers; kept {shares}")


if __name__ == "__main__":
    main()
