"""Our Triton kernels on a GPU, or in Triton's interpreter where TRITON_INTERPRET is 1.

Run as `python -m tests.triton_cases KIND...`, in a process of its own, since Triton reads that when
it is imported. Prints for each kind how many products were compared with dense in float64, and
those that were wrong.
"""

import json
import math
import sys

import torch
from triton.runtime import interpreter

from sparsity_core.kernels import KERNELS
from sparsity_core.kernels.gpu import interpreted
from sparsity_core.structures import STRUCTURES

ULP = {"float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}
PATTERNS = {
    "gpu-unstructured": ("unstructured", "out-channel", "3:32"),
    "gpu-condensed": ("constant-fan-in", "2:4"),
    "gpu-balanced": ("3:32", "2:4", "4:32", "1:16", "32:32"),
}
OPTIONS = {kind: ({"samples": 4, "warps": 1}, {"samples": 64, "warps": 8}) for kind in PATTERNS}
OPTIONS["gpu-balanced"] = ({"outputs": 16, "tile": 16}, {"outputs": 1, "tile": 256, "warps": 1})
SHAPES = [(7, 53), (4, 96), (1, 32)]
patch = interpreter._patch_lang_tensor


def patch_with_index(tensor, scope):
    """Triton 3.6 takes a number from an array of one axis, which numpy 2.4 refuses."""
    patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))


interpreter._patch_lang_tensor = patch_with_index


def wrong(kernel, weight, mask, bias, x):
    """What is wrong with a product, or None."""
    packed = kernel.pack(weight, mask, bias)
    y = packed(x if interpreted() else x.cuda()).cpu()
    kept = weight.to(kernel.stores).double().masked_fill(~mask, 0)
    expected = x.double() @ kept.T
    size = x.double().abs() @ kept.abs().T
    if bias is not None:
        added = bias.to(kernel.stores).double()
        expected, size = expected + added, size + added.abs()
    if y.dtype != x.dtype or not y.is_contiguous() or y.shape != expected.shape:
        return f"{y.dtype} {tuple(y.shape)} {y.stride()}"
    # Sums of n float32 products, rounded once to the type of the outputs.
    bound = size * 2**-24 * (weight.shape[1] + 2) + expected.abs() * ULP[kernel.dtype] + 1e-7
    off = (y.double() - expected).abs()
    return None if bool((off <= bound).all()) else f"off by {float((off / bound).max())} bounds"


def blocks():
    """The cases of square blocks."""
    mask = torch.rand(3, 4) < 0.6
    mask[1] = False
    mask = mask.repeat_interleave(16, 0).repeat_interleave(16, 1)
    kernel = KERNELS.make("gpu-bsr", dtype="float32", side=16, samples=32)
    for batch in (0, 1, 3, 16, 50):
        for bias in (None, torch.randn(48)):
            yield kernel, torch.randn(48, 64), mask, bias, torch.randn(batch, 64)
    half = KERNELS.make("gpu-bsr", dtype="float16", side=16)
    yield half, torch.randn(48, 64), mask, None, torch.randn(64, 20).half().T
    yield kernel, torch.randn(48, 64), mask & False, torch.randn(48), torch.randn(5, 64)


def cases(kind):
    """(what, kernel, weight, mask, bias, x) for every case of a kernel."""
    torch.manual_seed(0)
    for structure in (STRUCTURES.make(text) for text in PATTERNS[kind]):
        for shape in SHAPES:
            kernel = KERNELS.make(kind, dtype=exact(kind))
            if structure.fits(shape) or kernel.why_not(structure, shape, "cuda"):
                continue
            scores = structure.units(torch.rand(shape))
            mask = structure.expand(structure.choose(scores, 0.8), shape)
            weight, bias = torch.randn(shape), torch.randn(shape[0])
            for batch in (1, 3, 64):
                yield kernel, weight, mask, bias, inputs(kernel, batch, shape[1])
    rows = 6
    weight, mask = torch.randn(rows, 64), every(rows, 64)
    for dtype in KERNELS.make(kind).dtypes:
        kernel = KERNELS.make(kind, dtype=dtype)
        for batch in (1, 20):
            yield kernel, weight, mask, torch.randn(rows), inputs(kernel, batch, 64)
            yield kernel, weight, mask, None, inputs(kernel, 64, batch).T
            yield kernel, weight, mask, None, inputs(kernel, batch, 128)[:, ::2]
    kernel = KERNELS.make(kind, dtype=exact(kind))
    for shape in ((2, 3, 64), (64,), (0, 64)):
        yield kernel, weight, mask, None, inputs(kernel, *shape)
    for extreme in (torch.zeros(rows, 64, dtype=torch.bool), torch.ones(rows, 64).bool()):
        for batch in (1, 20):
            yield kernel, weight, extreme, torch.randn(rows), inputs(kernel, batch, 64)
    if kind == "gpu-unstructured":
        mixed = torch.zeros(rows, 64, dtype=torch.bool)
        mixed[1], mixed[3], mixed[5, ::7] = True, torch.rand(64) < 0.2, True
        for batch in (1, 3, 64):
            yield kernel, weight, mixed, torch.randn(rows), torch.randn(batch, 64)
    for options in OPTIONS[kind]:
        other = KERNELS.make(kind, dtype=exact(kind), **options)
        yield other, weight, mask, None, inputs(other, 70, 64)


def exact(kind):
    """The most exact type that a kernel takes."""
    return "float32" if "float32" in KERNELS.make(kind).dtypes else "float16"


def inputs(kernel, *shape):
    """Random inputs of the kernel's type."""
    return torch.randn(shape).to(kernel.stores)


def every(rows, cols):
    """A mask that all three kernels take: 3:32."""
    structure = STRUCTURES.make("3:32")
    scores = structure.units(torch.rand(rows, cols))
    return structure.expand(structure.choose(scores, 0.9), (rows, cols))


def reads_pruned(kind):
    """Outputs that an infinite input reaches though its weight is pruned."""
    weight, mask, found = torch.rand(6, 64) + 0.1, every(6, 64), []
    kernel = KERNELS.make(kind, dtype=exact(kind))
    packed = kernel.pack(weight, mask)
    for batch in (1, 20):
        for column in (0, 41, 63):
            x = torch.ones(batch, 64).to(kernel.stores)
            x[:, column] = math.inf
            y = packed(x if interpreted() else x.cuda()).cpu()
            if not torch.equal(y.isposinf(), mask[:, column].expand_as(y)) or y.isnan().any():
                found.append(f"batch {batch}, input {column}")
    return found


def compared(kind):
    """How many products of a kind there are, and what is wrong with some."""
    count, failures = 0, []
    for kernel, weight, mask, bias, x in blocks() if kind == "gpu-bsr" else cases(kind):
        count += 1
        if reason := wrong(kernel, weight, mask, bias, x):
            what = f"{KERNELS.label(kernel)} {tuple(weight.shape)} x {tuple(x.shape)}"
            failures.append(f"{what}: {reason}")
    failures += [] if kind == "gpu-bsr" else reads_pruned(kind)
    return {"products": count, "wrong": failures}


if __name__ == "__main__":
    with torch.no_grad():
        print(json.dumps({kind: compared(kind) for kind in sys.argv[1:]}))
