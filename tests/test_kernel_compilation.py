"""Kernels on a CPU without AVX-512, and what a second start compiles: nothing."""

import os
import platform
import subprocess
import sys

import pytest

# Every compiled kernel once, against the dense product; then how many came from disk.
SCRIPT = """
import torch
from sparsity_core.kernels import KERNELS, balanced, convolve, ell, permute, shifted, tiled
from sparsity_core.kernels.vector import AVX512
assert not AVX512
torch.manual_seed(0)
for kind in ("ell", "permute", "balanced", "balanced-bf16", "tiled", "blocks"):
    kernel = KERNELS.make(kind)
    structure = kernel.pattern(0.9)
    weight = torch.randn(60, 96)
    mask = structure.expand(structure.choose(structure.units(torch.rand(60, 96)), 0.9), (60, 96))
    packed = kernel.pack(weight, mask, torch.randn(60))
    x = torch.randn(1, 96)
    y = x @ packed.dense().float().T + packed.bias
    torch.testing.assert_close(packed(x), y, rtol=1e-4, atol=1e-4)
kernel = KERNELS.make("sparse-convolution", padding=(1, 1))
packed = kernel.pack(torch.randn(5, 4, 3, 3), torch.rand(5, 4, 3, 3) > 0.5)
x = torch.randn(1, 4, 9, 9)
y = torch.nn.functional.conv2d(x, packed.dense(), padding=1)
torch.testing.assert_close(packed(x), y, rtol=1e-4, atol=1e-4)
compiled = [ell._product, permute._product, balanced._product, balanced._product_of_halves,
            tiled._product, tiled._product_of_fours, convolve.convolve, shifted.spread_image]
hits = [sum(f.stats.cache_hits.values()) for f in compiled]
misses = [sum(f.stats.cache_misses.values()) for f in compiled]
print(min(hits), max(hits), min(misses), max(misses))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="asks numba for another x86 CPU")
def test_without_avx512_and_from_disk(tmp_path):
    environment = os.environ | {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+popcnt",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }

    def start():
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return [int(number) for number in done.stdout.split()]

    least_hits, most_hits, least_misses, _ = start()
    assert (least_hits, most_hits) == (0, 0)
    assert least_misses >= 1
    least_hits, _, _, most_misses = start()
    assert least_hits >= 1
    assert most_misses == 0
