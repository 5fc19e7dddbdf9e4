"""The table that every script here prints: the paper's number, ours, the tolerance, the verdict."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One published number or relation beside what was found, seed by seed."""

    what: str
    paper: str
    found: Sequence[float]  # one value a seed
    low: float = float("-inf")  # the mean has to lie between low and high
    high: float = float("inf")
    unit: str = ""

    @property
    def mean(self) -> float:
        """Of the seeds."""
        return statistics.mean(self.found)

    @property
    def verdict(self) -> str:
        """hit, MISS, or not run."""
        if not self.found:
            return "not run"
        return "hit" if self.low <= self.mean <= self.high else "MISS"

    def cells(self) -> list[str]:
        """The row of the table."""
        if not self.found:
            here = "-"
        else:
            spread = f" +- {statistics.stdev(self.found):.3g}" if len(self.found) > 1 else ""
            here = f"{self.mean:.4g}{spread}{self.unit} ({len(self.found)})"
        return [self.what, self.paper, here, self._tolerance(), self.verdict]

    def _tolerance(self) -> str:
        if self.low == float("-inf"):
            return f"<= {self.high:g}{self.unit}"
        if self.high == float("inf"):
            return f">= {self.low:g}{self.unit}"
        return f"{self.low:g} to {self.high:g}{self.unit}"


def print_table(claims: Sequence[Claim], setting: str) -> None:
    """Print the claims in columns, under one line that says how they were measured."""
    head = ["claim", "paper", "here: mean +- sd (seeds)", "tolerance", "verdict"]
    rows = [head, *(claim.cells() for claim in claims)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    print(setting)
    for row in rows:
        print(" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
