"""Which channels can go so that a model says the same: the largest set of them.

A channel can go when nobody needs it: every layer that reads it has only zeros for it, or finds it
constant, so that its share can be put into the layer's bias. Where zeros pad the borders a constant
is none; there one constant channel stays and carries the others, which is exact at borders too.
"""

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor

from sparsity_core.compress.coupling import Coupling, Mix

CARRIES = "stays constant and carries the other constant channels, for zeros pad the borders of"


@dataclass(eq=False)
class Removal:
    """What goes, and why the rest stays; channels by their classes."""

    gone: set[int]
    reasons: dict[int, str] = field(default_factory=dict)  # classes that stay -> why
    carriers: dict[str, int] = field(default_factory=dict)  # layers with padding -> who carries


def removable(found: Coupling) -> Removal:
    """The largest set of channels that can go; each layer keeps an output at least."""
    kept = dict(found.classes.frozen)
    while True:
        removal = _largest(found, kept)
        more = _carriers(found, removal) or _last_ones(found, removal) or _balance(found, removal)
        if not more:
            return removal
        kept |= more


def _largest(found: Coupling, kept: dict[int, str]) -> Removal:
    """The largest set without the classes in `kept`, borders and shapes left aside."""
    of = found.classes.of
    gone, reasons = found.classes.all() - set(kept), dict(kept)
    changed = True
    while changed:
        changed = False
        for mix in found.mixes:
            read = _read(mix, found, gone)
            for column, channel in enumerate(mix.inputs.ids):
                needed = read[column] and mix.inputs.constants[column].isnan()
                if needed and (name := of(channel)) in gone:
                    gone.remove(name)
                    reasons[name] = f"varies and is read by {mix.path}"
                    changed = True
    return Removal(gone, reasons)


def _read(mix: Mix, found: Coupling, gone: set[int]) -> list[bool]:
    """Which inputs an output that stays has a weight for."""
    alive = found.classes.mask(mix.outputs, gone)
    weight: Tensor = mix.module.get_parameter("weight").detach()
    used = (weight.flatten(1).unflatten(1, (weight.shape[1], -1)) != 0).any(2)
    rows = len(mix.outputs) // mix.groups
    used &= alive[:, None].to(used.device)
    return [bool(x) for x in used.unflatten(0, (mix.groups, rows)).any(1).flatten()]


def _carriers(found: Coupling, removal: Removal) -> dict[int, str]:
    """A channel that has to stay in one of the layers whose borders are padded."""
    of, removal.carriers = found.classes.of, {}
    for mix in found.mixes:
        if not mix.padded:
            continue
        read = _read(mix, found, removal.gone)
        wanting = [
            i
            for i, channel in enumerate(mix.inputs.ids)
            if of(channel) in removal.gone and read[i] and mix.inputs.constants[i] != 0
        ]
        if not wanting:
            continue
        if mix.groups > 1:
            why = f"is constant, and zeros pad the borders of {mix.path}, which is in groups"
            return {of(mix.inputs.ids[i]): why for i in wanting}
        strength = mix.inputs.constants.nan_to_num(0).abs()
        staying = [i for i, c in enumerate(mix.inputs.ids) if of(c) not in removal.gone]
        able = [i for i in staying if strength[i] > 0]
        carrier = max(able or wanting, key=lambda i: float(strength[i]))
        if not able:
            return {of(mix.inputs.ids[carrier]): f"{CARRIES} {mix.path}"}
        removal.carriers[mix.path] = carrier
    return {}


def _last_ones(found: Coupling, removal: Removal) -> dict[int, str]:
    """A channel that has to stay in a layer that would have none."""
    for outputs in found.producers().values():
        names = [found.classes.of(channel) for channel in outputs]
        if all(name in removal.gone for name in names):
            return {names[0]: "stays, for a layer needs one output"}
    return {}


def _balance(found: Coupling, removal: Removal) -> dict[int, str]:
    """A channel that has to stay so that all groups of a convolution are of one size."""
    of = found.classes.of
    for mix in found.mixes:
        if mix.groups == 1:
            continue
        why = f"stays, for all groups of {mix.path} need the same size"
        sides = [_by_group(ids, mix.groups) for ids in (mix.inputs.ids, mix.outputs)]
        stay = [[sum(of(c) not in removal.gone for c in part) for part in ids] for ids in sides]
        living = [g for g in range(mix.groups) if any(side[g] for side in stay)]
        for ids, counts in zip(sides, stay, strict=True):
            most = max([1, *(counts[g] for g in living)])
            for group in living:
                if counts[group] < most:
                    first = next(c for c in ids[group] if of(c) in removal.gone)
                    return {of(first): why}
    return {}


def living_groups(found: Coupling, mix: Mix, gone: set[int]) -> list[int]:
    """The groups of a convolution that keep a channel."""
    parts = _by_group(mix.outputs, mix.groups)
    return [g for g, part in enumerate(parts) if any(found.classes.of(c) not in gone for c in part)]


def why_kept(found: Coupling, removal: Removal) -> dict[str, str]:
    """Layers with outputs whose weights are all zero and that stay -> how many, and why."""
    notes = {}
    makers = {mix.path: mix.module for mix in found.mixes}
    for path, outputs in found.producers().items():
        module = makers.get(path)
        if module is None:
            continue
        dead = (module.get_parameter("weight").flatten(1) == 0).all(1)
        left = [
            removal.reasons[found.classes.of(c)]
            for c, is_dead in zip(outputs, dead, strict=True)
            if is_dead and found.classes.of(c) not in removal.gone
        ]
        if left:
            counts = Counter(left)
            notes[path] = "; ".join(
                f"{n} of its zeroed outputs: {why}" for why, n in counts.items()
            )
    return notes


def _by_group(ids: tuple[int, ...], groups: int) -> list[tuple[int, ...]]:
    size = len(ids) // groups
    return [ids[g * size : (g + 1) * size] for g in range(groups)]
