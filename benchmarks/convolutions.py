"""Sparse convolutions of ResNet-50's and CIFAR ResNet-18's shapes against the best dense layout.

Unstructured random masks, one image, float32, one thread, hot cache; all layouts of one shape are
timed in one process, interleaved in random order, copies and turns of images included.

    python -m benchmarks.convolutions [--sparsities .8,.9,.95]
"""

import argparse

import torch

from sparsity_core.kernels import KERNELS
from sparsity_core.kernels.peaks import cpu_label, kernel_versions, peaks
from sparsity_core.kernels.timing import interleaved, on_threads

SHAPES = [  # filters, inputs, kernel, image
    (256, 64, 1, 56),
    (1024, 256, 1, 14),
    (512, 512, 1, 14),
    (1024, 1024, 1, 7),
    (64, 64, 3, 56),
    (128, 128, 3, 28),
    (256, 256, 3, 14),
    (512, 512, 3, 7),
    (64, 64, 3, 32),
    (512, 512, 3, 4),
]
KINDS = [kind for kind in KERNELS if KERNELS.make(kind).rank == 4]


def main() -> None:
    """Print one line a shape and sparsity."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sparsities", default=".8,.9,.95")
    sparsities = [float(text) for text in parser.parse_args().sparsities.split(",")]
    print(f"{cpu_label()}; 1 thread; {kernel_versions()}")
    names = [
        kind.removeprefix("dense-convolution").strip("-") or "channels-first" for kind in KINDS
    ]
    print(f"{'filters inputs kernel image':>28}{'zeros':>6}" + "".join(f"{n:>19}" for n in names))
    for shape in SHAPES:
        for sparsity in sparsities:
            measure(*shape, sparsity)


def measure(filters: int, inputs: int, kernel: int, image: int, sparsity: float) -> None:
    """One line: microseconds in each layout, the speedup, the share of peak multiply-adds."""
    make = torch.Generator().manual_seed(0)
    weight = torch.randn(filters, inputs, kernel, kernel, generator=make)
    mask = torch.rand(weight.shape, generator=make) >= sparsity
    x, side = torch.randn(1, inputs, image, image, generator=make), kernel // 2
    packed = {
        kind: KERNELS.make(kind, padding=(side, side)).pack(weight, mask, torch.zeros(filters))
        for kind in KINDS
    }
    calls = {kind: [lambda one=one: one(x)] for kind, one in packed.items()}
    with torch.no_grad(), on_threads(1):
        times = {kind: found.p50 for kind, found in interleaved(calls, 21).items()}
    sparse = times["sparse-convolution"]
    best = min(time for kind, time in times.items() if kind != "sparse-convolution")
    rate = packed["sparse-convolution"].kept * image**2 / sparse
    print(
        f"{filters:8}{inputs:7}{kernel:5}x{kernel}{image:6} {sparsity:6.2f}"
        + "".join(f"{times[kind] * 1e6:19.0f}" for kind in KINDS)
        + f"   {best / sparse:5.2f}x {rate / peaks().multiply_adds:4.0%} of peak",
        flush=True,
    )


if __name__ == "__main__":
    main()
