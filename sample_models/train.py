"""Train a sample model and write its weights and card: `python -m sample_models.train NAME`."""

import argparse
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sample_models.augment import Augmented
from sample_models.card import WEIGHTS, write_card, write_weights
from sample_models.catalog import SPLIT_SEED
from sample_models.samples import SAMPLES, Sample
from sparsity_core.checkpoint import UnderWay
from sparsity_core.data import Dataset, load_data
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.train import Progress, evaluate, train_


def fit(
    sample: Sample,
    data: Dataset,
    seed: int,
    on_epoch: Callable[[Progress, nn.Module], None] | None = None,
    under_way: UnderWay | None = None,
) -> nn.Module:
    """A sample model trained from nothing; `seed` decides first weights, order and shifts.

    With `under_way` it goes on from where it was saved.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = sample.build()
    # The same numbers in another order, in which convolutions on a CPU are half again as fast.
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    varied = Augmented(model, sample.shift, sample.mirror) if sample.shift else model
    train_(
        varied,
        data.train,
        sample.training,
        seed=seed,
        on_epoch=None if on_epoch is None else lambda progress: on_epoch(progress, model),
        under_way=under_way,
    )
    return model


def describe(
    name: str, sample: Sample, data: Dataset, seed: int, spread: int, model: nn.Module, sha256: str
) -> dict[str, Any]:
    """The card of a trained model; `spread` seeds are trained to see how much luck is in it."""
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    accuracy = {key: evaluate(model, split).value for key, split in splits.items()}
    seeds = range(seed, seed + max(1, spread))
    others = [evaluate(fit(sample, data, s), data.test).value for s in seeds[1:]]
    tested = [accuracy["test"], *others]
    command = f"python -m sample_models.train {name} --seed {seed} --spread {spread}"
    if sample.training.epochs != SAMPLES[name].training.epochs:
        command += f" --epochs {sample.training.epochs}"
    return {
        "name": name,
        "summary": sample.summary,
        "architecture": sample.architecture,
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": data.name,
        "data_source": data.source,
        "classes": list(data.classes),
        "accuracy": {
            key: {"value": round(accuracy[key], 6), "samples": len(split)}
            for key, split in splits.items()
        },
        "spread": {
            "split": "test",
            "seeds": list(seeds),
            "accuracies": [round(value, 6) for value in tested],
            "mean": round(statistics.mean(tested), 6),
            "standard_deviation": round(statistics.stdev(tested), 6) if others else None,
        },
        "seed": seed,
        "split_seed": SPLIT_SEED,
        "training": asdict(sample.training) | {"shift": sample.shift, "mirror": sample.mirror},
        "command": command,
        "versions": {
            "sparsity-explorer": version("sparsity-explorer"),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "sha256": sha256,
    }


def main() -> None:
    """Read the command line, train, write."""
    parser = argparse.ArgumentParser(prog="python -m sample_models.train", description=__doc__)
    parser.add_argument("name", help=", ".join(SAMPLES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="instead of the sample's own number")
    parser.add_argument("--spread", type=int, default=3, help="how many seeds to train in all")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for weights and card")
    choices = parser.parse_args()
    try:
        _train_and_write(choices)
    except SparsityError as error:
        sys.exit(f"{error}")


def _train_and_write(choices: argparse.Namespace) -> None:
    name, folder = choices.name, choices.out
    if name not in SAMPLES:
        raise unknown("sample model", name, SAMPLES)
    torch.set_num_threads(1)  # small models gain nothing from more, and sums keep their order
    sample = SAMPLES[name]
    if choices.epochs is not None:
        sample = replace(sample, training=replace(sample.training, epochs=choices.epochs))
    data = load_data(sample.data, SPLIT_SEED)

    def save_and_tell(progress: Progress, model: nn.Module) -> None:
        write_weights(f"{name}.partial", model, folder)
        print(f"epoch {progress.epoch}/{progress.epochs}: loss {progress.loss:.4f}", flush=True)

    what = [name, data.train.digest, asdict(sample.training), sample.shift, sample.mirror]
    under_way = UnderWay(digest_of(["sample model", what, choices.seed]))
    model = fit(sample, data, choices.seed, save_and_tell, under_way)
    card = describe(
        name, sample, data, choices.seed, choices.spread, model, write_weights(name, model, folder)
    )
    write_card(name, card, folder)
    (folder / f"{name}.partial.safetensors").unlink(missing_ok=True)
    under_way.delete()
    print(f"{name}: {card['accuracy']['test']['value']:.2%} on test, {card['spread']}")


if __name__ == "__main__":
    main()
