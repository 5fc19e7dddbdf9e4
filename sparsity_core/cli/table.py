"""Rows as a table on the terminal: every number whole, however narrow the window."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from sparsity_core.cli.kernel_table import print_kernels, print_latency
from sparsity_core.comparison import lacks_interval
from sparsity_core.intervals import NO_INTERVAL
from sparsity_core.metrics import is_share
from sparsity_core.sweep.trials import ENGINE as EARLY

_OWN: dict[str, Callable[[Any], None]] = {"kernels": print_kernels, "latency": print_latency}
_COLUMNS = {
    "sweep": ("layer", "scorer", "structure"),
    "curve": ("scorer", "structure", "allocation", "schedule", "repair", "finetune_epochs"),
}

_DROPS = "drop from dense in points, with a paired 95 % interval"
_EARLY = "drop from dense in points, early answers: where it lies, at the risk that stands below"
_NUMBERS = {
    "sweep": _DROPS,
    "curve": _DROPS,
    "moving": "after the last step; cost is multiply-adds beside dense training and inference",
    "tickets": "weights left, at the end of training and at the early stop",
}


def print_rows(kind: str, rows: Sequence[Any]) -> None:
    """One line a point under a heading that says what the numbers are, then the messages."""
    if not rows:
        print("no points are stored yet")
        return
    if kind in _OWN:
        _OWN[kind](rows)
        return
    rows = _last_looks(rows) if kind == "moving" else rows
    first = rows[-1]
    samples = str(next((row.samples for row in rows if row.samples is not None), 0))
    numbers = _NUMBERS[kind]
    if kind == "sweep" and any(row.engine.startswith(EARLY) for row in rows):
        samples, numbers = "some", _EARLY
    if not is_share(first.metric):
        numbers = numbers.replace(" in points", "")
    print(f"{first.model}: {first.metric} on {samples} samples of {first.split}; {numbers}\n")
    print(pd.DataFrame([_line(kind, row) for row in rows]).to_string(index=False), end="\n\n")
    if kind in _COLUMNS and lacks_interval(rows):
        print(NO_INTERVAL)
    reasons = Counter((row.status, row.message) for row in rows if row.message)
    for (status, message), count in reasons.items():
        print(f"{status} ({count} point{'s' if count > 1 else ''}): {message}")


def _last_looks(rows: Sequence[Any]) -> list[Any]:
    """One row a network with moving masks."""
    newest = {(row.rule, row.sparsity, row.matched, row.seed): row for row in rows}
    return list(newest.values())


def _moving(row: Any) -> dict[str, str]:
    """A line of an experiment with moving masks."""
    shares = {"asked": row.sparsity, "achieved": row.achieved_sparsity, row.metric: row.value}
    shares |= {"validation": row.validation_value, "training cost": row.training_cost}
    shares |= {"inference cost": row.inference_cost, "ever live": row.explored}
    return {
        "rule": row.rule + (f" (counts of {row.matched})" if row.matched else ""),
        "seed": str(row.seed),
        "step": f"{row.step} of {row.steps}",
        **{name: "" if share is None else f"{share:.2%}" for name, share in shares.items()},
        "execution": row.execution,
        "status": row.status,
    }


def _training(row: Any) -> dict[str, str]:
    """A line of a ticket experiment: what is left, and two accuracies."""
    shares = {"left": None if row.sparsity is None else 1 - row.sparsity, row.metric: row.value}
    shares |= {"at early stop": row.early_value, "barrier": row.barrier}
    return {
        "arm": row.arm,
        "rewind": str(row.rewind),
        "round": str(row.round),
        "seed": str(row.seed),
        **{name: "" if share is None else f"{share:.2%}" for name, share in shares.items()},
        "early stop": "" if row.early_stop is None else str(row.early_stop),
        "status": row.status,
    }


def _line(kind: str, row: Any) -> dict[str, str]:
    if kind == "tickets":
        return _training(row)
    if kind == "moving":
        return _moving(row)
    names = {n.replace("_", " "): str(getattr(row, n)) or "none" for n in _COLUMNS[kind]}
    achieved = row.achieved_sparsity
    line = names | {
        "asked": f"{100 * row.sparsity:g}%",
        "achieved": "" if achieved is None else f"{achieved:.2%}",
        "seed": str(row.seed),
        **({"samples": str(row.samples or "")} if kind == "sweep" else {}),
        row.metric: "",
        "drop": "",
        "from": "",
        "to": "",
        "status": "no-op" if row.status == "ok" and getattr(row, "no_op", False) else row.status,
    }
    if row.value is not None:
        share = is_share(row.metric)
        line[row.metric] = f"{row.value:.2%}" if share else f"{row.value:.5g}"
        for name, column in (("drop", "drop"), ("from", "drop_low"), ("to", "drop_high")):
            number = getattr(row, column)
            if number is not None:
                line[name] = f"{100 * number:+.2f}" if share else f"{number:+.4g}"
    return line
