"""How much memory a model of 100 million parameters takes, from its checkpoint to a measured point.

A transformer with random weights lies in a safetensors file. A fresh process opens it, as
`sparsity sweep my.models:make --weights FILE --data FILE` does, and measures one point of one
layer; what is said is the peak of its resident memory above what it held before the model was
there, in multiples of the model's own bytes. Linux only.

    python -m benchmarks.large_model              # intake, and one point by each of two engines
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sparsity_core.machine import versions
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import load_task

WIDTH, LAYERS, VOCABULARY, LENGTH, SAMPLES = 1024, 8, 256, 16, 40
PARTS = ("intake", "exact", "reference")


class Transformer(nn.Module):
    """Tokens in, scores of the next token out; 101 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        block = nn.TransformerEncoderLayer(WIDTH, 16, 4 * WIDTH, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T) -> scores (N, T, vocabulary)."""
        return self.head(self.blocks(self.embed(tokens)))


def make() -> nn.Module:
    """The untrained model."""
    torch.manual_seed(0)
    return Transformer()


def write(folder: Path) -> int:
    """A checkpoint and windows of tokens; how many bytes the model has."""
    state = make().state_dict()
    save_file(state, folder / "large.safetensors")
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, VOCABULARY, (2, SAMPLES, LENGTH))
    np.savez(folder / "tokens.npz", x=tokens[0], y=tokens[1])
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def peak(part: str, folder: Path) -> int:
    """The peak of this very process above its beginning, in bytes."""
    small = nn.Linear(8, 8)(torch.ones(1, 8))  # libraries and their buffers are not the model's
    assert small.shape == (1, 8)
    Path("/proc/self/clear_refs").write_text("5")  # forget earlier peaks
    before = _bytes("VmRSS")
    task = load_task(
        f"benchmarks.large_model:make?weights={folder}/large.safetensors&data={folder}/tokens.npz"
    )
    if part != "intake":
        plan = plan_sweep(
            task, layers=["blocks.layers.4.linear1"], sparsities=[0.9], engine=part, samples=8
        )
        (row,) = plan.run(task, plan.points())
        assert row.status == "ok", row.message
    return _bytes("VmHWM") - before


def measured(part: str, folder: Path) -> int:
    """The peak of one part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.large_model", "--part", part, str(folder)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help="this one only, in this process")
    parser.add_argument("folder", nargs="?", type=Path, help="of the files; default: a new one")
    chosen = parser.parse_args()
    if chosen.part:
        print(peak(chosen.part, chosen.folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = write(Path(folder))
        print(f"{versions()}; {size / 4e6:.0f} million parameters, {size / 2**20:.0f} MiB")
        for part in PARTS:
            found = measured(part, Path(folder))
            print(f"{part:12}{found / 2**20:8.0f} MiB{found / size:8.2f} times", flush=True)


def _bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
