"""Where in a checkpoint the weights are: beside optimizers, averages, scalars and whole modules."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from sparsity_core.intake.inert import Inert, Stored

Named = dict[str, Tensor | Stored]

_DEEPEST = 6
_MOST = 100_000  # mappings looked at: a file may be made to look endless
# What training keeps beside the weights; the state of an optimizer is made of tensors too.
_BESIDE = re.compile(
    r"(?i)optim|opt$|(lr_?)?sched|.*scaler|rng|amp$|conf|args$|hyper|callbacks|loops"
)


def tensor_sets(content: Any) -> dict[str, Named]:
    """Every mapping from names to tensors, by its place in the file: `""`, `state_dict`, `ema`.

    A pickled module counts as the mapping that its `state_dict()` would have been. A set whose
    parts are mappings themselves also counts as one with names joined by dots, at a place that ends
    in `*`: only the model can say which reading is meant.
    """
    found: dict[str, Named] = {}
    seen: set[int] = set()

    def look(value: Any, place: tuple[str, ...]) -> None:
        entries = _entries(value)
        if entries is None or id(value) in seen or len(place) > _DEEPEST or len(seen) > _MOST:
            return
        seen.add(id(value))
        own = {name: item for name, item in entries.items() if isinstance(item, Tensor | Stored)}
        if own:
            found[".".join(place)] = own
        for name, item in entries.items():
            if not _BESIDE.match(name):
                look(item, (*place, name))

    look(content, ())
    return found | _joined(found)


def beside(content: Any) -> tuple[str, ...]:
    """What else lies at the top of the file: optimizer, epoch, arguments."""
    entries = _entries(content) or {}
    return tuple(
        name
        for name, item in entries.items()
        if _BESIDE.match(name) or not isinstance(item, Tensor | Stored | Mapping | Inert)
    )


def _joined(found: Mapping[str, Named]) -> dict[str, Named]:
    result: dict[str, Named] = {}
    for root in {place.rpartition(".")[0] for place in found if place}:
        start = f"{root}." if root else ""
        parts = {p.removeprefix(start): own for p, own in found.items() if p.startswith(start)}
        result[f"{start}*"] = dict(found.get(root, {})) | {
            f"{part}.{name}": item
            for part, own in parts.items()
            if part
            for name, item in own.items()
        }
    return result


def _entries(value: Any) -> dict[str, Any] | None:
    """What a mapping or a pickled object holds, by name; None for anything else."""
    if isinstance(value, Inert):
        state = value.held
        value = dict(_state_dict(state)) if isinstance(state.get("_parameters"), Mapping) else state
    if isinstance(value, Mapping):
        return {name: item for name, item in value.items() if isinstance(name, str)}
    return None


def _state_dict(state: Mapping[Any, Any], path: str = "", depth: int = 0) -> Iterator[Any]:
    """(name, tensor) of a pickled nn.Module, as its state_dict() would give them."""
    if depth > 100:  # a module inside itself
        return
    left_out = state.get("_non_persistent_buffers_set")
    left_out = left_out if isinstance(left_out, set) else set()
    for part in ("_parameters", "_buffers"):
        for name, item in _mapping(state.get(part)).items():
            if isinstance(item, Tensor | Stored) and name not in left_out:
                yield f"{path}{name}", item
    for name, child in _mapping(state.get("_modules")).items():
        if isinstance(child, Inert):
            yield from _state_dict(child.held, f"{path}{name}.", depth + 1)


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}
