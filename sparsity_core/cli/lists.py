"""`sparsity models`, `sparsity scorers` and their like: what there is, from the registries."""

from typing import Any

from rich.console import Console
from rich.table import Column, Table

from sparsity_core.dynamic import RULES
from sparsity_core.recipe import STAGES
from sparsity_core.registry import Registry
from sparsity_core.repairs import REPAIRS
from sparsity_core.scorers import SCORERS
from sparsity_core.task import catalog

_STAGES: dict[str, Registry[Any]] = {
    f"{stage}s": registry for stage, registry in {**STAGES, "repair": REPAIRS}.items()
} | {"rules": RULES}


def models() -> int:
    """Every model: accuracy on its test split, or what to do before it can be loaded."""
    table = Table(*whole("model", "parameters", "test accuracy"), "what it is", box=None)
    for entry in catalog().values():
        card, missing = entry.card(), entry.missing()
        test = card["accuracy"]["test"] if card else None
        table.add_row(
            entry.name,
            f"{card['parameters']:,}" if card else "",
            f"{test['value']:.2%} of {test['samples']:,}" if test else "",
            entry.summary + (f" [dim](not here: {missing})[/dim]" if missing else ""),
        )
    Console().print(table)
    return 0


def choices(stage: str) -> int:
    """Every kind of a stage with its options and the first line of its description."""
    registry = _STAGES[stage]
    scores = registry is SCORERS
    memory = ["memory"] if scores else []
    table = Table(*whole(registry.stage, "options", *memory), "what it does", box=None)
    for kind in registry:
        options = ", ".join(f"{k}={v}" for k, v in registry.options_of(kind).items())
        held = [f"{SCORERS.make(kind).memory:g} x"] if scores else []
        table.add_row(kind, options, *held, registry.describe(kind).splitlines()[0])
    Console().print(table)
    if scores:
        print("memory: the peak while scoring all layers at once, in multiples of the weights")
    return 0


def whole(*names: str) -> list[Column]:
    """Columns that are never broken over lines or cut."""
    return [Column(name, no_wrap=True) for name in names]
