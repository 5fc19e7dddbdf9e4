"""What a scorer is, and the list of all of them."""

from typing import ClassVar, Literal, Protocol

from sparsity_core.probe import Probe
from sparsity_core.registry import Registry
from sparsity_core.weights import Scores


class Scorer(Protocol):
    """Says how much each weight matters."""

    # The widest set in which two scores may be compared. Within `row`, a structure of single
    # weights takes the same share of every row (output), as the method's paper does.
    comparable_within: ClassVar[Literal["model", "row"]]
    needs_data: ClassVar[bool]

    def __hash__(self) -> int:
        """Scorers are frozen: equal ones hash equally."""

    def score(self, probe: Probe) -> Scores:
        """Scores in the shape of each prunable weight, by parameter name; higher = keep."""


SCORERS: Registry[Scorer] = Registry("scorer")
