"""Whole sample models at 90 % sparsity: milliseconds dense in four ways, and on packed weights.

Unstructured masks by magnitude, the same sparsity in every layer; random inputs of the model's
shape. All variants of a model are timed interleaved in one process, hot cache.

`x`: the best dense over sparse. --fold: batch norms go into the layers before them, in a dense
rival (`folded`) as well.

    python -m benchmarks.sparse_models [--batches 1,64] [--sparsity .9] [--threads 1] [--fold]
        [--others]
"""

import argparse

import torch
from torch import nn

from sample_models.card import load_weights_
from sample_models.resnet import ResNet
from sample_models.samples import SAMPLES
from sparsity_core.kernels.before_after import before_after
from sparsity_core.kernels.latency_row import WHOLE
from sparsity_core.kernels.peaks import cpu_label, kernel_versions
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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--others", action="store_true", help="torch.compile, onnxruntime as well")
    parser.add_argument("--fold", action="store_true", help="batch norms into the layers before")
    parser.add_argument("--layers", action="store_true", help="every layer's choice")
    asked = parser.parse_args()
    print(f"{cpu_label()}; {kernel_versions()}; sparsity {asked.sparsity:g}")
    print(f"{asked.threads} thread{'s' if asked.threads > 1 else ''}")
    names = ("dense", "folded", "compiled", "onnxrt", "sparse")
    print(f"{'model':28}{'batch':>6}" + "".join(f"{n:>10}" for n in names) + "      x  noise")
    for name in asked.models.split(","):
        for batch in map(int, asked.batches.split(",")):
            measure(name, MODELS[name], batch, asked)


def measure(name: str, shape: tuple[int, ...], batch: int, asked: argparse.Namespace) -> None:
    """One line."""
    torch.manual_seed(0)
    model, x = build(name), torch.randn(batch, *shape)
    masks = magnitude_masks(model, asked.sparsity)
    mask_(model, masks)
    how = {"threads": asked.threads, "fold": asked.fold, "others": asked.others}
    found = before_after(model, masks, x, **how)
    whole = found.pop(WHOLE)
    times = [whole.get(f"{way}_p50") for way in ("dense", "folded", "compiled", "onnxruntime")]
    cells = "".join(f"{'-':>10}" if us is None else f"{us / 1e3:10.3f}" for us in times)
    print(
        f"{name:28}{batch:6}{cells}{whole['p50'] / 1e3:10.3f}{whole['speedup']:7.2f}"
        f"{whole['noise']:7.1%}  {whole['message']}",
        flush=True,
    )
    if asked.layers:
        for layer, fields in found.items():
            print(f"    {layer:36}{fields['kernel']:22}{fields.get('speedup', 1):6.2f}x", end="")
            print(f"  {fields['message']}")


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
