"""What a repair is, and the list of all of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn

from sparsity_core.probe import Batch
from sparsity_core.registry import Registry
from sparsity_core.structures import Structure
from sparsity_core.weights import Masks


@dataclass(frozen=True, eq=False)
class Damage:
    """What was done to a model, and the samples on which it is to be mended."""

    dense: nn.Module  # the model before; never changed
    masks: Masks
    structure: Structure  # of the masks
    batches: list[Batch]


class Repair(ABC):
    """Changes the weights that stay, so that each layer answers as it did; a frozen dataclass."""

    @abstractmethod
    def repair_(self, model: nn.Module, damage: Damage) -> tuple[Masks, dict[str, str]]:
        """Mend the masked model in place; what is masked stays zero.

        Returns the masks, as given or chosen anew with the same counts, and the layers that could
        not be mended -> why.
        """


REPAIRS: Registry[Repair] = Registry("repair")
