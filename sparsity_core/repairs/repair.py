"""What a repair is, the list of all of them, and the way from layer to layer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.probe import Batch
from sparsity_core.registry import Registry
from sparsity_core.structures import Structure
from sparsity_core.trace import Use, eval_mode, watch
from sparsity_core.weights import Masks, Prunable, prunable


@dataclass(frozen=True, eq=False)
class Damage:
    """What was done to a model, and the samples on which it is to be mended."""

    dense: nn.Module  # the model before; never changed
    masks: Masks
    structure: Structure  # of the masks
    batches: list[Batch]

    def __post_init__(self) -> None:
        if not self.batches:
            raise SparsityError("a repair needs samples; give batches, or a recipe without repair")

    def dense_weight(self, name: str) -> Tensor:
        """A parameter as it was before."""
        return self.dense.get_parameter(name).detach()


class Repair(ABC):
    """Changes the weights that stay, so that each layer answers as it did; a frozen dataclass."""

    @abstractmethod
    def repair_(self, model: nn.Module, damage: Damage) -> tuple[Masks, dict[str, str]]:
        """Mend the masked model in place; what is masked stays zero.

        Returns the masks, as given or chosen anew with the same counts, and the layers that could
        not be mended -> why.
        """


REPAIRS: Registry[Repair] = Registry("repair")


def repairs_label(repairs: Sequence[Repair]) -> str:
    """Repairs in their order as one text, such as `least-squares + batch-norm`; none are ``."""
    return " + ".join(map(REPAIRS.label, repairs))


def repairs_from(text: str) -> tuple[Repair, ...]:
    """The repairs that `repairs_label` wrote; raises SparsityError for one that is not known."""
    return tuple(REPAIRS.make(part.strip()) for part in text.split("+")) if text.strip() else ()


class LayerRepair(Repair):
    """Mends the masked layers one by one, in the order of their first use in the forward pass.

    So each meets the inputs that the layers mended before it now give. Costs one forward pass a
    layer; holds a few inputs x inputs matrices (float64) of one layer at a time. A weight that is
    used twice is mended once, for the inputs of both uses together.
    """

    @abstractmethod
    def mend_(self, layer: Prunable, model: nn.Module, damage: Damage) -> Tensor:
        """Mend one layer in place; returns its mask."""

    def refuses(self, layer: Prunable) -> str | None:  # noqa: ARG002
        """Why a layer cannot be mended, or None when it can."""
        return None

    def repair_(self, model: nn.Module, damage: Damage) -> tuple[Masks, dict[str, str]]:
        """Layer after layer; reports those that are never used or refused."""
        layers = {n: layer for n, layer in prunable(model).items() if n in damage.masks}
        used = [name for name in order_of_use(model, damage.batches) if name in layers]
        failed = {name: "is never used in the forward pass" for name in layers if name not in used}
        masks = dict(damage.masks)
        with torch.no_grad():
            for name in used:
                if reason := self.refuses(layers[name]):
                    failed[name] = reason
                else:
                    masks[name] = self.mend_(layers[name], model, damage)
        return masks, failed


def order_of_use(model: nn.Module, batches: list[Batch]) -> list[str]:
    """The prunable weights that a forward pass uses, the first first."""
    order: dict[str, None] = {}

    def note(use: Use) -> None:
        order.setdefault(use.name)

    with eval_mode(model), torch.no_grad(), watch(model, note):
        model(batches[0][0][:1])
    return list(order)


def settle_biases_(
    model: nn.Module, layer: Prunable, rows: slice, shift: Tensor, damage: Damage
) -> None:
    """Biases of some rows as the dense model has them, plus `shift`; masked ones stay zero."""
    for name in layer.biases:
        settled = damage.dense_weight(name)[rows].double() + shift
        kept = damage.masks[name][rows] if name in damage.masks else torch.ones_like(shift)
        model.get_parameter(name)[rows] = settled.masked_fill(kept == 0, 0)
