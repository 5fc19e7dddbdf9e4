"""Train a sample model and write its weights and card: `python -m sample_models.train NAME`."""

import argparse
import hashlib
import json
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sample_models.catalog import WEIGHTS, card_path, weights_path
from sample_models.zoo import ZOO, Sample
from sparsity_core.data import Dataset, load_data
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.machine import versions
from sparsity_core.train import Progress, evaluate, train_


def train_sample(
    sample: Sample, data: Dataset, seed: int, show: bool = False
) -> tuple[nn.Module, dict[str, float]]:
    """A model trained from `seed` and its accuracy on each split."""
    torch.manual_seed(seed)
    model = sample.build()

    def report(at: Progress) -> None:
        if show:
            print(f"epoch {at.epoch}/{at.epochs}  loss {at.loss:.4f}", flush=True)

    def augment(images: Tensor, random: torch.Generator) -> Tensor:
        return _shifted_and_flipped(images, sample, random)

    train_(
        model,
        data.train,
        sample.training,
        seed=seed,
        on_epoch=report,
        augment=augment if sample.shift or sample.flip else None,
    )
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return model, {name: evaluate(model, split).value for name, split in splits.items()}


def _shifted_and_flipped(images: Tensor, sample: Sample, random: torch.Generator) -> Tensor:
    """Each image moved by up to `shift` pixels (zeros come in) and flipped half of the time."""
    n, _, height, width = images.shape
    padded = nn.functional.pad(images, [sample.shift] * 4)
    span = 2 * sample.shift + 1
    top = torch.randint(span, (n,), generator=random)
    left = torch.randint(span, (n,), generator=random)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = left[:, None] + torch.arange(width)  # (N, width)
    if sample.flip:
        flipped = torch.rand(n, generator=random) < 0.5
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    each = torch.arange(n)[:, None, None, None]
    channels = torch.arange(images.shape[1])[None, :, None, None]
    return padded[each, channels, rows, columns[:, None, None, :]]


def card_of(
    sample: Sample, data: Dataset, seed: int, scores: dict[str, float], repeats: list[float]
) -> dict[str, Any]:
    """What a reader needs to judge the model and to train it again."""
    sizes = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    model = sample.build()
    return {
        "name": sample.name,
        "summary": sample.summary,
        "data": sample.data,
        "data_source": data.source,
        "classes": list(data.classes),
        "seed": seed,
        "accuracy": {n: {"value": scores[n], "samples": sizes[n]} for n in sizes},
        "test_accuracy_by_seed": repeats,
        "spread": statistics.stdev(repeats) if len(repeats) > 1 else None,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": asdict(sample.training) | {"shift": sample.shift, "flip": sample.flip},
        "command": f"python -m sample_models.train {sample.name} --seed {seed}",
        "versions": versions(),
    }


def main() -> None:
    """Read the command line, train, and write."""
    parser = argparse.ArgumentParser(prog="python -m sample_models.train", description=__doc__)
    parser.add_argument("name", help=f"one of {', '.join(ZOO)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1, help="seeds trained to know the spread")
    parser.add_argument("--epochs", type=int, help="instead of the model's own number")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    chosen = parser.parse_args()
    try:
        if chosen.name not in ZOO:
            raise unknown("model", chosen.name, ZOO)
        sample = ZOO[chosen.name]
        if chosen.epochs is not None:
            sample = replace(sample, training=replace(sample.training, epochs=chosen.epochs))
        data = load_data(sample.data)
    except SparsityError as error:
        parser.error(str(error))
    model, scores = train_sample(sample, data, chosen.seed, show=True)
    others = range(chosen.seed + 1, chosen.seed + chosen.repeats)
    repeats = [scores["test"], *(train_sample(sample, data, s)[1]["test"] for s in others)]
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = weights_path(sample.name, chosen.out)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, path)
    card = card_of(sample, data, chosen.seed, scores, repeats)
    card["weights_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    card_path(sample.name, chosen.out).write_text(json.dumps(card, indent=1) + "\n")
    print(", ".join(f"{name} {value:.2%}" for name, value in scores.items()), f"-> {path}")


if __name__ == "__main__":
    main()
