"""Whole sample models at 90 % sparsity: milliseconds dense, compiled, and on packed weights.

Unstructured masks by magnitude, the same sparsity in every layer; random inputs of the model's
shape. All variants of a model are timed interleaved in one process, one thread, hot cache.

    python -m benchmarks.sparse_models [--batches 1,64] [--sparsity .9] [--compile]
"""

import argparse

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from sample_models.card import load_weights_
from sample_models.resnet import ResNet
from sample_models.samples import SAMPLES
from sparsity_core.kernels import sparsify
from sparsity_core.kernels.choice import DENSE
from sparsity_core.kernels.peaks import cpu_label, kernel_versions
from sparsity_core.kernels.timing import interleaved, on_threads
from sparsity_core.structures import Unstructured
from sparsity_core.weights import Masks, mask_, prunable

MODELS = {
    "cifar10-resnet20": (3, 32, 32),
    "cifar10-resnet18-untrained": (3, 32, 32),
    "digits-mobilenet": (1, 8, 8),
    "mnist-lenet-300-100": (1, 28, 28),
    "digits-vit": (1, 8, 8),
}


def main() -> None:
    """Print one line a model and batch, and which layers pay."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", default="1,64")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--compile", action="store_true", help="torch.compile as well: slow start")
    parser.add_argument("--fold", action="store_true", help="batch norms into convolutions first")
    parser.add_argument("--layers", action="store_true", help="every layer's choice")
    asked = parser.parse_args()
    print(f"{cpu_label()}; 1 thread; {kernel_versions()}; sparsity {asked.sparsity:g}")
    print(
        f"{'model':30}{'batch':>6}{'dense':>9}{'compiled':>10}{'sparse':>9}{'x':>6}  packed layers"
    )
    for name in asked.models.split(","):
        for batch in map(int, asked.batches.split(",")):
            measure(name, MODELS[name], batch, asked)


def measure(name: str, shape: tuple[int, ...], batch: int, asked: argparse.Namespace) -> None:
    """One line."""
    torch.manual_seed(0)
    model, x = build(name), torch.randn(batch, *shape)
    if asked.fold:  # dense and sparse alike
        model = fuse(model)
    masks = magnitude_masks(model, asked.sparsity)
    sparse = sparsify(model, masks, sample=x)
    mask_(model, masks)
    calls = {"dense": [lambda: model(x)], "sparse": [lambda: sparse(x)]}
    with torch.no_grad(), on_threads(1):
        if asked.compile:
            compiled = torch.compile(model)
            calls["compiled"] = [lambda: compiled(x)]
        times = {key: found.p50 * 1e3 for key, found in interleaved(calls, 15).items()}
    packed = [layer for layer in sparse.layers if layer.kernel != DENSE]
    best = min(times["dense"], times.get("compiled", times["dense"]))
    compiled_text = f"{times['compiled']:10.3f}" if "compiled" in times else f"{'-':>10}"
    print(
        f"{name:30}{batch:6}{times['dense']:9.3f}{compiled_text}{times['sparse']:9.3f}"
        f"{best / times['sparse']:6.2f}  {len(packed)} of {len(sparse.layers)}",
        flush=True,
    )
    if asked.layers:
        for layer in sparse.layers:
            print(f"    {layer.name:40}{layer.kernel:24}{layer.speedup:6.2f}x")


def build(name: str) -> nn.Module:
    """A sample model with its weights; or a ResNet-18 for CIFAR with random ones."""
    if name not in SAMPLES:
        return ResNet(3, (64, 128, 256, 512), 2).eval()
    model = SAMPLES[name].build()
    load_weights_(model, name)
    return model.eval()


def magnitude_masks(model: nn.Module, sparsity: float) -> Masks:
    """The smallest weights of every layer go."""
    pattern, weights = Unstructured(), dict(model.named_parameters())
    return {
        name: pattern.expand(
            pattern.choose(pattern.units(weights[name].detach().abs()), sparsity), layer.shape
        )
        for name, layer in prunable(model).items()
    }


if __name__ == "__main__":
    main()
