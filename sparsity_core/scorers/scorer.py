"""What a scorer is, and the list of all of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

from torch import Tensor

from sparsity_core.probe import Probe
from sparsity_core.registry import Registry
from sparsity_core.weights import Scores


class Scorer(ABC):
    """Says how much each weight matters; a frozen dataclass, so that equal ones are equal."""

    # Held at the peak while all layers are scored, in multiples of the weights; the probe's own
    # copy is among it. What benchmarks/scoring_memory.py found, rounded up; activations come on
    # top.
    memory: ClassVar[float]
    # The widest set in which two scores may be compared. Within `row`, a structure of single
    # weights takes the same share of every row (output), as the method's paper does.
    comparable_within: ClassVar[Literal["model", "row"]] = "model"
    needs_data: ClassVar[bool] = True
    # The finest thing it tells apart. Scores of `outputs` are the same for all weights of an
    # output, so only structures that remove whole outputs can use them.
    ranks: ClassVar[Literal["weights", "outputs"]] = "weights"

    @abstractmethod
    def score(self, probe: Probe) -> Scores:
        """Scores in the shape of each prunable weight, by parameter name; higher = keep."""

    def refuses(self, probe: Probe) -> dict[str, str]:  # noqa: ARG002
        """The layers it cannot judge -> why, with the remedy; they stay dense."""
        return {}

    def pool(self, scores: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        """Scores of units from those of a layer's weights; `mean` averages over each unit."""
        return mean(scores)


SCORERS: Registry[Scorer] = Registry("scorer")
