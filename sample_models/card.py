"""What ships with a model: weights/NAME.safetensors, its card weights/NAME.json, first results."""

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from sparsity_core.errors import SparsityError

WEIGHTS = Path(__file__).parent / "weights"
RESULTS = Path(__file__).parent / "results"


def read_card(name: str, folder: Path = WEIGHTS) -> dict[str, Any] | None:
    """The card of a model, or None when it was never trained."""
    return _read(folder / f"{name}.json")


def read_sensitivity(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """A finished sweep that ships with the model; None without.

    Its `command`, `plan` and `rows`. `sample_models.first_results` makes it.
    """
    return _read(folder / f"{name}-sensitivity.json")


def read_curve(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """A finished whole-model curve that ships with the model, like its sweep; None without."""
    return _read(folder / f"{name}-curve.json")


def read_export(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The `command` of a finished `sparsity prune` and the `card` that it wrote; None without."""
    return _read(folder / f"{name}-export.json")


def read_tickets(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """A finished ticket experiment that ships with the model; None without.

    Its `command`, `plan`, `rows`, and the ticket's `lifetimes` by seed. `sample_models.tickets`
    makes it.
    """
    return _read_gz(folder / f"{name}-tickets.json.gz")


def read_moving(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """A finished experiment with moving masks that ships with the model; None without.

    Its `command`, `plan`, `rows`, `films` by training and `image`, the shape of an input.
    `sample_models.moving` makes it.
    """
    return _read_gz(folder / f"{name}-moving.json.gz")


def _read_gz(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return content


def read_kernels(folder: Path = RESULTS) -> dict[str, Any] | None:
    """Finished timings of kernels, of a layer, a map and whole models; see kernels.py."""
    return _read(folder / "kernels.json")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def rows_to_ship(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Rows (dataclasses) as plain data, their numbers to six digits behind the point."""
    return [
        {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(row).items()}
        for row in rows
    ]


def write_card(name: str, card: Mapping[str, Any], folder: Path = WEIGHTS) -> None:
    """Write a card beside the weights."""
    (folder / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")


def write_weights(name: str, model: nn.Module, folder: Path = WEIGHTS) -> str:
    """Write a model's state and return the SHA-256 of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    content = save({key: value.contiguous() for key, value in model.state_dict().items()})
    (folder / f"{name}.safetensors").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load_weights_(model: nn.Module, name: str, folder: Path = WEIGHTS) -> dict[str, Any]:
    """Give a model its trained weights and return their card.

    Raises SparsityError when files are absent, when the weights are not those of the card, or do
    not fit the model.
    """
    path = folder / f"{name}.safetensors"
    again = f"train it with: python -m sample_models.train {name}"
    card = read_card(name, folder)
    if card is None or not path.is_file():
        raise SparsityError(f"{name}: no trained weights in {folder}; {again}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise SparsityError(f"{path} is not the file its card describes; restore both, or {again}")
    try:
        model.load_state_dict(load(content))
    except (SafetensorError, RuntimeError) as error:
        raise SparsityError(f"{path} does not fit the model ({error}); {again}") from error
    return card
