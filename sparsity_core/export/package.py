"""A folder to take away: checkpoint, recipe, masks, smaller models, and a card of what they are."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sparsity_core.compress.shrink import Shrunk
from sparsity_core.cost import Cost, cost
from sparsity_core.errors import SparsityError
from sparsity_core.export.files import write_bytes
from sparsity_core.export.masks_file import masks_bytes
from sparsity_core.export.onnx_file import onnx_model
from sparsity_core.export.pruned import Pruned, shrunk, speeds
from sparsity_core.export.sparse_file import sparse_bytes
from sparsity_core.machine import device_label, versions

_ONNX_SAMPLES = 4


@dataclass(frozen=True)
class Wanted:
    """What to write besides checkpoint, recipe, masks and card."""

    layout: str = "dense"  # of the checkpoint, one of LAYOUTS
    shrunk: bool = False  # the model without its idle channels
    onnx: bool = False
    batch: int = 64  # samples whose time is taken
    threads: int = 1


def contents(pruned: Pruned, wanted: Wanted) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files by name, `card.json` among them, and what the card says."""
    files = {
        "model.safetensors": sparse_bytes(pruned.model.state_dict(), wanted.layout),
        "masks.safetensors": masks_bytes(pruned.masks),
        "recipe.yaml": pruned.recipe.to_yaml().encode(),
    }
    card = _card(pruned) | {"layout": wanted.layout}
    models: dict[str, nn.Module] = {"model": pruned.model}
    if wanted.shrunk:
        smaller = shrunk(pruned)
        models["shrunk"] = smaller.model
        files["shrunk.safetensors"] = sparse_bytes(
            smaller.model.state_dict(), settings=smaller.settings
        )
        card["shrunk"] = _shrunk_card(pruned, smaller, wanted)
    if wanted.onnx:
        sample = pruned.task.split(pruned.split).inputs[:_ONNX_SAMPLES]
        for name, model in models.items():
            written = onnx_model(model, sample)
            files[f"{name}.onnx"] = written.content
            card[f"{name}.onnx"] = {
                "largest_difference": written.difference,
                "batch_sizes_compared": list(written.batches),
                "zeros": written.zeros,
            }
    card["files"] = {name: len(content) for name, content in files.items()}
    files["card.json"] = json.dumps(card, indent=1).encode()
    return files, card


def write_package(pruned: Pruned, folder: Path, wanted: Wanted) -> dict[str, Any]:
    """Write the folder, the card last; returns what the card says. Other files there stay."""
    check_folder(folder)
    files, card = contents(pruned, wanted)
    for name, content in files.items():
        write_bytes(folder / name, content)
    return card


def check_folder(folder: Path) -> None:
    """Make the folder, or raise SparsityError, before anything is computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SparsityError(
            f"--out {folder}: cannot be made ({error.strerror}); choose another folder"
        ) from error


def _card(pruned: Pruned) -> dict[str, Any]:
    task = pruned.task
    return {
        "model": task.name,
        "model_digest": task.model_digest,
        "recipe": pruned.recipe.to_dict(),
        "recipe_digest": pruned.recipe.digest,
        "seed": pruned.seed,
        "score_samples": pruned.score_samples,
        "train_digest": task.train.digest,
        "metric": task.metric.name,
        "split": pruned.split,
        "data_digest": task.split(pruned.split).digest,
        **asdict(pruned.comparison),
        "achieved": pruned.achieved,
        "skipped": pruned.skipped,
        "unrepaired": pruned.unrepaired,
        "dense": _counts(pruned.dense_cost) | {"bytes": _bytes(task.model)},
        "pruned": _counts(pruned.cost),
        "device": device_label(pruned.device),
        "versions": versions(),
    }


def _bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def _counts(counted: Cost) -> dict[str, float]:
    return {
        "parameters": counted.parameters,
        "not_zero": counted.nonzeros,
        "sparsity": counted.sparsity,
        "multiply_adds": counted.macs,
        "multiply_adds_by_weights_not_zero": counted.effective_macs,
    }


def _shrunk_card(pruned: Pruned, smaller: Shrunk, wanted: Wanted) -> dict[str, Any]:
    inputs = pruned.task.split(pruned.split).inputs
    batch = inputs[: wanted.batch]
    times = speeds(
        {"dense": pruned.task.model, "shrunk": smaller.model}, batch, threads=wanted.threads
    )
    predicted = cost(pruned.task.model, inputs[:1], smaller.masks)
    return {
        **_counts(cost(smaller.model, inputs[:1])),
        "predicted_multiply_adds": predicted.effective_macs,
        "largest_difference": smaller.difference,
        "settings": smaller.settings,
        "kept": smaller.kept,
        "seconds": {name: asdict(time) for name, time in times.items()},
        "speedup": times["dense"].p50 / times["shrunk"].p50,
        "batch": len(batch),
        "threads": wanted.threads,
    }
