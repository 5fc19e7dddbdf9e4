"""What a rule of moving masks is: asked at certain steps, it says which weights live from there."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sparsity_core.digest import digest_of
from sparsity_core.dynamic.exchange import drawn
from sparsity_core.registry import Registry
from sparsity_core.weights import Masks, Weights, check_finite

Counts = Mapping[str, int]  # weights that a layer keeps


@dataclass(frozen=True)
class Clock:
    """How far a training is."""

    step: int  # steps made
    steps: int  # of the whole training
    epoch: int  # steps an epoch has

    @property
    def share(self) -> float:
        """Of the training that is over, 0 to 1."""
        return self.step / self.steps


@dataclass(frozen=True, eq=False)
class State:
    """A training at an update; mappings are by layer and hold the same layers in one order."""

    clock: Clock
    weights: Weights  # zero where masked
    gradients: Weights  # of the loss by every weight, masked ones too; empty unless asked for
    masks: Masks
    kept: Counts  # the budget of each layer
    last: str  # the layer that gives the outputs
    averages: Weights = field(default_factory=dict)  # of gradients; empty unless asked for
    seed: int = 0

    def generator(self, name: str) -> torch.Generator:
        """Random numbers that follow from seed, step and layer alone, so that a resumed run is
        the same run."""
        return generator_for(self.seed, self.clock.step, name)


@dataclass(frozen=True, eq=False)
class Report:
    """What an update did, beyond what the masks before and after it say."""

    # Live before and after, but begun anew: SET may draw a place that it has just emptied.
    reborn: Masks = field(default_factory=dict)
    ablated: dict[str, int] = field(default_factory=dict)  # neurons without any input


class UpdateRule(ABC):
    """A frozen dataclass that says when masks change and how; it holds no state of its own.

    Layers are tensors with outputs first. Rules keep the count of each layer exact; a born weight
    starts at zero unless `newborn` says otherwise, with its optimizer state cleared.
    """

    learns_sparsity: ClassVar[bool] = False  # is the sparsity an outcome, whatever was asked for?
    layerwise: ClassVar[bool] = False  # does an update of a layer look at that layer alone?
    averages_gradients: ClassVar[float] = 0.0  # momentum of dense gradients that it wants kept

    @property
    def fixed_sparsity(self) -> float | None:
        """The only sparsity that the rule can have, or None."""
        return None

    @property
    def needs_gradients(self) -> bool:
        """Does an update look at dense gradients? Then its batch is used for that and no more:
        no step of the optimizer is made (Evci et al. 2020, algorithm 1)."""
        return False

    def fits(self, shape: tuple[int, ...], groups: int = 1) -> str | None:  # noqa: ARG002
        """Why a layer of this shape stays dense, or None when the rule can have it."""
        return None

    def first(self, weights: Weights, kept: Counts, seed: int) -> Masks:
        """The masks before the first step: as many as the budget says, anywhere."""
        return {
            name: drawn(anywhere, kept[name], generator_for(seed, 0, name))
            for name, anywhere in all_live(weights).items()
        }

    @abstractmethod
    def due(self, clock: Clock) -> bool:
        """Is there an update before the next step?"""

    @abstractmethod
    def update(self, state: State) -> tuple[Masks, Report]:
        """The masks from here on. Raises NonFiniteError for gradients that are NaN or infinite."""

    def newborn(self, shape: tuple[int, ...], make: torch.Generator) -> Tensor | None:  # noqa: ARG002
        """The first values of weights that are born, or None for zeros."""
        return None

    def training_macs(self, live: float, dense: float, clock: Clock) -> float:
        """Multiply-adds of one step for one sample, where a forward pass takes `live`.

        Forward, and backward once by the inputs and once by the weights: as in appendix H of Evci
        et al. 2020.
        """
        if self.needs_gradients and self.due(clock):
            return 2 * live + dense
        return 3 * live


RULES: Registry[UpdateRule] = Registry("rule")


def all_live(weights: Weights) -> Masks:
    """Masks without any hole."""
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


def generator_for(seed: int, step: int, name: str) -> torch.Generator:
    """Random numbers on the CPU, whatever the device: the same everywhere."""
    return torch.Generator().manual_seed(int(digest_of([seed, step, name])[:15], 16))


def check_all_finite(tensors: Weights, what: str) -> None:
    """Raise NonFiniteError for the first tensor with NaN or infinity."""
    for name, tensor in tensors.items():
        check_finite(name, tensor, what)
