"""Weights from a file put into a model: every tensor finds its place, or nothing is changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError, unknown
from sparsity_core.intake.checkpoint import Checkpoint, open_checkpoint
from sparsity_core.intake.in_parts import InParts, put_together
from sparsity_core.intake.inert import Stored
from sparsity_core.intake.tensor_sets import Named

_WRAPPERS = ("module", "_orig_mod")  # of DataParallel and torch.compile, anywhere in a name
_COUNTERS = ("total_ops", "total_params")  # left behind by tools that count operations
_ROWS = 20  # of each kind of trouble that a message shows
# Where there is a choice between sets that fit equally: the trained weights, not their average.
_AVERAGES = ("ema", "swa", "average", "teacher", "shadow")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Fit:
    """How the tensors of one place in a file lie over a model; keys are the model's names."""

    place: str
    named: Mapping[str, Tensor | Stored | InParts]  # the tensors that are there
    names: dict[str, str]  # the model's -> the file's, of equal shape
    missing: dict[str, Shape]
    unexpected: dict[str, Shape]
    misshaped: dict[str, tuple[Shape, Shape, str]] = field(default_factory=dict)  # ours, theirs

    @property
    def whole(self) -> bool:
        """Has every tensor its place?"""
        return not (self.missing or self.unexpected or self.misshaped)

    def table(self) -> str:
        """What does not fit, one tensor a line, with the nearest one on the other side."""
        lines = [
            f"shape differs  {name}  model {_x(ours)}, file {_x(theirs)}{_as(name, other)}"
            for name, (ours, theirs, other) in _first(self.misshaped)
        ]
        lines += [_more(self.misshaped, "differ in shape")]
        lines += [
            f"missing        {name}  {_x(shape)}{_near(name, shape, self.unexpected)}"
            for name, shape in _first(self.missing)
        ]
        lines += [_more(self.missing, "are missing")]
        lines += [
            f"unexpected     {name}  {_x(shape)}{_near(name, shape, self.missing)}"
            for name, shape in _first(self.unexpected)
        ]
        lines += [_more(self.unexpected, "are unexpected")]
        return "\n".join(f"  {line}" for line in lines if line)


def load_(model: nn.Module, path: Path | str, place: str | None = None) -> list[str]:
    """Give a model the weights of a file, in place, and return what a person should know of it.

    `place` names the set of weights where a file has several, such as `ema`; otherwise the one that
    fits is taken. Half and double precision become the model's own type. When any tensor is
    missing, left over or of another shape, SparsityError shows all of them in one table, and the
    model is as before.
    """
    file = open_checkpoint(path)
    fit, others = best_fit(file, model, place)
    if not fit.whole:
        where = f" (at {fit.place!r})" if fit.place else ""
        advice = (
            "build the model with the options that it was trained with, or mend the file's names"
        )
        raise SparsityError(
            f"{file.path}{where} does not fit {type(model).__name__}, of whose tensors it has "
            f"{len(fit.names)} of {len(model.state_dict())}; nothing was loaded: {advice}\n"
            f"{fit.table()}{_foreign(file)}"
        )
    state = model.state_dict()
    found = {ours: file.tensor(fit.named[theirs]) for ours, theirs in fit.names.items()}
    with torch.no_grad():
        for name, tensor in found.items():
            state[name].copy_(tensor)
    return _notes(file, fit, found, state, others)


def best_fit(
    file: Checkpoint, model: nn.Module, place: str | None = None
) -> tuple[Fit, tuple[str, ...]]:
    """The set of tensors that lies best over a model, and the other places that fit as well."""
    if place is not None and place not in file.sets:
        raise unknown(f"place in {file.path}", place, [key or "(its top)" for key in file.sets])
    places = file.sets if place is None else [place]
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    fits = [
        _untied(lay_over(key, named, shapes), model)
        for key in places
        for named in _readings(file.sets[key])
    ]

    def worth(fit: Fit) -> tuple[bool, int, bool, int]:
        average = any(word in fit.place.lower() for word in _AVERAGES)
        trouble = len(fit.unexpected) + len(fit.misshaped)
        return fit.whole, len(fit.names), not average, -trouble

    ordered = sorted(fits, key=worth, reverse=True)
    return ordered[0], tuple(fit.place for fit in ordered[1:] if fit.whole)


def _readings(named: Named) -> list[Mapping[str, Tensor | Stored | InParts]]:
    """The tensors as they are, and with those whole that the file holds in parts."""
    whole = put_together(named)
    return [named] if whole.keys() == named.keys() else [named, whole]


def lay_over(
    place: str, named: Mapping[str, Tensor | Stored | InParts], shapes: Mapping[str, Shape]
) -> Fit:
    """Pair names, as they are or without wrappers and one common beginning."""
    ours = _pairing(named, shapes)
    pairs = {name: theirs for theirs, name in ours.items() if name in shapes}
    same = {n: t for n, t in pairs.items() if tuple(named[t].shape) == shapes[n]}
    used = set(pairs.values())
    counters = {n for n in named if n.rpartition(".")[2] in _COUNTERS}
    return Fit(
        place,
        named,
        same,
        # Old files lack the counter of batches, which evaluation never looks at.
        missing={
            n: s
            for n, s in shapes.items()
            if n not in pairs and not n.endswith("num_batches_tracked")
        },
        unexpected={ours[n]: tuple(t.shape) for n, t in named.items() if n not in used | counters},
        misshaped={
            n: (shapes[n], tuple(named[t].shape), t) for n, t in pairs.items() if n not in same
        },
    )


def _untied(fit: Fit, model: nn.Module) -> Fit:
    """A tensor that the model has under several names need be in the file under one."""
    state = model.state_dict()
    had = {state[name].data_ptr() for name in fit.names}
    missing = {n: s for n, s in fit.missing.items() if state[n].data_ptr() not in had}
    return replace(fit, missing=missing)


def _pairing(named: Iterable[str], shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Each of the file's names as the model would say it."""
    unwrapped = {n: n if n in shapes else _unwrapped(n) for n in named}
    beginnings = {n.partition(".")[0] for n in unwrapped.values() if "." in n}
    choices = [unwrapped]
    if len(beginnings) == 1:  # such as "model." of Lightning and "backbone."
        start = f"{beginnings.pop()}."
        choices.append({n: plain.removeprefix(start) for n, plain in unwrapped.items()})
    for start in {n.partition(".")[0] for n in shapes if "." in n}:  # a backbone's file alone
        choices.append({n: f"{start}.{plain}" for n, plain in unwrapped.items()})
    return max(choices, key=lambda names: sum(n in shapes for n in names.values()))


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _notes(
    file: Checkpoint,
    fit: Fit,
    found: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    others: Iterable[str],
) -> list[str]:
    where = f" at {fit.place!r}" if fit.place else ""
    notes = [f"{file.path.name}{where}: {len(found)} tensors loaded"]
    if any(ours != theirs for ours, theirs in fit.names.items()):
        ours, theirs = next(pair for pair in fit.names.items() if pair[0] != pair[1])
        notes.append(f"names were changed: {theirs} is {ours}")
    used = [fit.named[theirs] for theirs in fit.names.values()]
    if made := {item.how for item in used if isinstance(item, InParts)}:
        notes.append(f"weights that {' and '.join(sorted(made))} left in parts were put together")
    halves = {str(t.dtype) for n, t in found.items() if t.dtype != state[n].dtype}
    if halves:
        notes.append(f"{', '.join(sorted(halves))} became the model's own types")
    if file.beside:
        notes.append(f"left aside: {', '.join(file.beside[:12])}")
    if rest := [place for place in others if not place.endswith("*")]:
        notes.append(f"the file also has weights at: {', '.join(map(repr, rest))}")
    if absent := [n for n in state if n not in found and n.endswith("num_batches_tracked")]:
        notes.append(f"{len(absent)} counters of batches are not in the file and stay as they are")
    if file.foreign:
        notes.append(f"classes that were not opened: {', '.join(file.foreign[:12])}")
    return notes


def _foreign(file: Checkpoint) -> str:
    names = ", ".join(file.foreign[:12])
    return f"\n  classes in the file that were not opened: {names}" if names else ""


def _x(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _as(name: str, other: str) -> str:
    return "" if name == other else f" (there {other})"


def _near(name: str, shape: Shape, others: Mapping[str, Shape]) -> str:
    """The nearest name on the other side, one of the same shape where there is one."""
    alike = [other for other, its in others.items() if its == shape]
    near = get_close_matches(name, alike, n=1, cutoff=0.3)
    near = near or get_close_matches(name, others, n=1, cutoff=0.6)
    return f"  nearest: {near[0]}" if near else ""


def _first(named: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(islice(named.items(), _ROWS))


def _more(named: Mapping[str, Any], what: str) -> str:
    return f"... and {len(named) - _ROWS} more {what}" if len(named) > _ROWS else ""
