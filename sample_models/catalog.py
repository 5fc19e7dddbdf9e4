"""The sample models as the core finds them: names, cards, trained weights."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from sample_models.zoo import ZOO, Sample
from sparsity_core.data import load_data, missing_data
from sparsity_core.errors import SparsityError
from sparsity_core.task import CatalogEntry, Task

WEIGHTS = Path(__file__).parent / "weights"
RESULTS = Path(__file__).parent / "results"


def weights_path(name: str, folder: Path = WEIGHTS) -> Path:
    """Where a model's trained weights lie."""
    return folder / f"{name}.safetensors"


def card_path(name: str, folder: Path = WEIGHTS) -> Path:
    """Where a model's card lies."""
    return folder / f"{name}.json"


def load(sample: Sample, seed: int = 0) -> Task:  # noqa: ARG001 - trained weights need no seed
    """The task of a sample model with its trained weights, checked against the card."""
    model = sample.build()
    path, card = weights_path(sample.name), read_card(sample.name)
    if card is None:
        raise SparsityError(
            f"{sample.name}: no trained weights; run python -m sample_models.train {sample.name}"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != card["weights_sha256"]:
        raise SparsityError(
            f"{path}: the content differs from its card; restore the file or train again with "
            f"python -m sample_models.train {sample.name}"
        )
    model.load_state_dict(load_file(path))
    data = load_data(sample.data)
    return Task(
        name=sample.name,
        model=model.eval(),
        train=data.train,
        validation=data.validation,
        test=data.test,
        classes=data.classes,
        card=card,
    )


def read_card(name: str) -> Mapping[str, Any] | None:
    """What is known of a trained model: data, seed, accuracy on each split, command, versions."""
    return _read(card_path(name))


def read_sensitivity(name: str) -> Mapping[str, Any] | None:
    """A finished sweep that ships with the model: `command` and `rows`."""
    return _read(RESULTS / f"{name}-sensitivity.json")


def _read(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text())
    return content


CATALOG = {
    name: CatalogEntry(
        name=name,
        summary=sample.summary,
        load=partial(load, sample),
        missing=partial(missing_data, sample.data),
        card=partial(read_card, name),
        sensitivity=partial(read_sensitivity, name),
    )
    for name, sample in ZOO.items()
}
