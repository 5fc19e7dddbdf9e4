"""What the trained networks of an experiment do with each sample, beside a noise floor."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from torch import Tensor, nn

from sparsity_core.behaviour import (
    Flips,
    answers_of,
    columns,
    flips,
    packed,
    unpacked,
)
from sparsity_core.data import Split
from sparsity_core.tickets.row import TicketResult


def behaviour_of(model: nn.Module, samples: Split, device: str) -> dict[str, Any]:
    """The columns of a row that say more than its accuracy."""
    answers = answers_of(model, samples, device=device)
    targets = samples.targets.reshape(-1).cpu()
    return columns(answers, targets) | {"predictions": packed(answers.predictions)}


def against_dense(
    rows: Sequence[TicketResult], targets: Tensor
) -> list[tuple[TicketResult, Flips]]:
    """Each sparse row with what flips against the dense network of its own seed."""
    dense = {row.seed: row for row in _dense(rows)}
    return [
        (row, _flips(dense[row.seed], row, targets))
        for row in rows
        if row.predictions and row.round and row.seed in dense
    ]


def noise_floor(
    rows: Sequence[TicketResult], targets: Tensor
) -> list[tuple[TicketResult, TicketResult, Flips]]:
    """Every two dense networks of different seeds: what flips for no reason but chance."""
    return [(a, b, _flips(a, b, targets)) for a, b in combinations(_dense(rows), 2)]


def _dense(rows: Sequence[TicketResult]) -> list[TicketResult]:
    return [row for row in rows if row.arm == "ticket" and not row.round and row.predictions]


def _flips(one: TicketResult, other: TicketResult, targets: Tensor) -> Flips:
    return flips(unpacked(one.predictions), unpacked(other.predictions), targets)
