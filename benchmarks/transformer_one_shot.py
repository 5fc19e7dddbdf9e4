"""What does pruning a trained language model once, without training again, cost?

A small causal transformer learns the characters of tinyshakespeare (SPARSITY_DATA); then the linear
layers of its blocks are pruned at 50 % and at 2:4. As in Sun et al. 2024 (Wanda, arXiv 2306.11695)
and Frantar & Alistarh 2023 (SparseGPT, arXiv 2301.00774): every layer equally sparse, 128 samples
to score on, embedding and output stay dense. Numbers are validation perplexities per character.

Wanda exists because large language models have outlier features: few channels many times larger
than the rest (Dettmers et al. 2022, arXiv 2208.07339). A model that learns for two minutes grows
none, so it starts with some: the norms' gain is `--outlier` in every 16th channel and 1 in the
others. With `--outlier 1` there are none, and Wanda is no better than magnitude. Means of three
seeds on a CPU (torch 2.13), about 3 minutes a seed:

                  dense   50 %: magnitude  wanda  sparsegpt   2:4: magnitude  wanda  sparsegpt
    --outlier 8    6.24              9.39   7.44       6.79            12.55   9.16       6.93
    --outlier 1    6.05              7.41   7.44       6.63             9.22   9.59       6.95

    python -m benchmarks.transformer_one_shot --seeds 3 --json result.json
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_core.data import Split
from sparsity_core.data.environment import find
from sparsity_core.recipe import Recipe, Training
from sparsity_core.repairs import LeastSquares, Repair, SparseGPT
from sparsity_core.rounds import run
from sparsity_core.scorers import OBS, Magnitude, Random, Scorer, Wanda
from sparsity_core.structures import NofM, Structure, Unstructured
from sparsity_core.task import Metric, Task
from sparsity_core.train import evaluate, train_

METHODS: dict[str, tuple[Scorer, tuple[Repair, ...]]] = {
    "random": (Random(), ()),
    "magnitude": (Magnitude(), ()),
    "wanda": (Wanda(), ()),
    "obs": (OBS(), ()),
    "sparsegpt": (Magnitude(), (SparseGPT(),)),  # which chooses its own masks
    "wanda + sparsegpt's update": (Wanda(), (SparseGPT(choose=False),)),
    "wanda + least-squares": (Wanda(), (LeastSquares(),)),
}
STRUCTURES: dict[str, Structure] = {"50 %": Unstructured(), "2:4": NofM(2, 4)}


class Block(nn.Module):
    """Causal self-attention, then two linear layers at each place, each added to its input."""

    def __init__(self, width: int, heads: int, outlier: float):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        for norm in (self.norm1, self.norm2):
            norm.weight.data[::16] = outlier
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) to the same."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (N, heads, T, d)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class CharacterTransformer(nn.Module):
    """The next character from those before it, as in GPT-2: norms first, learned positions."""

    def __init__(self, characters: int, context: int, width: int, depth: int, outlier: float):
        super().__init__()
        self.embed = nn.Embedding(characters, width)
        self.position = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.Sequential(*(Block(width, 4, outlier) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters)

    def forward(self, text: Tensor) -> Tensor:
        """(N, T) characters to logits (N, characters, T)."""
        x = self.blocks(self.embed(text) + self.position[: text.shape[1]])
        return self.head(self.norm(x)).mT


def next_character_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of each sample in nats per character: (N, characters, T) -> (N,)."""
    return F.cross_entropy(outputs, targets, reduction="none").mean(1)


NEXT_CHARACTER = Metric("accuracy", lambda outputs, y: (outputs.argmax(1) == y).float().mean(1))


def windows(text: Tensor, context: int, name: str) -> Split:
    """A text (length,) cut into samples of `context` characters and those that follow them."""
    count = (len(text) - 1) // context
    inputs, targets = text[: count * context], text[1 : count * context + 1]
    return Split(inputs.reshape(-1, context), targets.reshape(-1, context), name)


def trained_task(
    text: Tensor,
    seed: int,
    *,
    context: int = 64,
    width: int = 96,
    depth: int = 3,
    outlier: float = 8,
    epochs: int = 3,
    rate: float = 2e-3,
) -> Task:
    """A transformer trained on the first nine tenths of a text; the rest validates."""
    border = len(text) * 9 // 10
    train = windows(text[:border], context, "train")
    validation = windows(text[border:], context, "validation")
    torch.manual_seed(seed)
    model = CharacterTransformer(int(text.max()) + 1, context, width, depth, outlier)
    training = Training(epochs, optimizer="adam", rate=rate, batch_size=32, clip=1.0)
    train_(model, train, training, loss=next_character_loss, seed=seed)
    return Task(
        "transformer", model, train, validation, validation, next_character_loss, NEXT_CHARACTER
    )


def perplexity(task: Task, model: nn.Module) -> float:
    """e to the mean loss on the validation split: between how many characters the model wavers."""
    measured = evaluate(model, task.validation, loss=task.loss, metric=task.metric, batch_size=128)
    return math.exp(measured.loss)


def pruned_perplexity(task: Task, method: str, structure: Structure, seed: int = 0) -> float:
    """The perplexity with half of the weights of every linear layer of the blocks gone."""
    scorer, repair = METHODS[method]
    recipe = Recipe(0.5, scorer, structure, repair=repair, skip=("head",))
    (only,) = run(task, recipe, seed=seed, score_samples=128)
    return perplexity(task, only.model)


def tinyshakespeare() -> Tensor:
    """The text as numbers of its characters in their order."""
    text = find("tinyshakespeare/input.txt").read_text()
    numbers = {character: i for i, character in enumerate(sorted(set(text)))}
    return torch.tensor([numbers[character] for character in text])


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--outlier", type=float, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    text = tinyshakespeare()
    found: dict[str, list[float]] = {}
    for seed in range(chosen.seeds):
        started = time.perf_counter()
        task = trained_task(text, seed, outlier=chosen.outlier, epochs=chosen.epochs)
        seconds = time.perf_counter() - started
        found.setdefault("dense", []).append(perplexity(task, task.model))
        for pattern, structure in STRUCTURES.items():
            for method in METHODS:
                value = pruned_perplexity(task, method, structure, seed)
                found.setdefault(f"{pattern} {method}", []).append(value)
        print(
            f"seed {seed}: trained in {seconds:.0f} s, perplexity {found['dense'][-1]:.3f}",
            flush=True,
        )
    for name, values in found.items():
        each = " ".join(f"{value:8.3f}" for value in values)
        print(f"{name:32} mean {statistics.mean(values):8.3f}   seeds {each}")
    if chosen.json:
        result = {
            "torch": torch.__version__,
            "outlier": chosen.outlier,
            "epochs": chosen.epochs,
            "perplexity": found,
        }
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
