"""A training under way: it can stop at any step, be saved, and go on as if it had never stopped."""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_core.batches import batch_sizes, check_labels
from sparsity_core.data import Split
from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.keep import keep_
from sparsity_core.randomness import Randomness
from sparsity_core.rates import rate_at
from sparsity_core.recipe import Training
from sparsity_core.task import PerSample, cross_entropy
from sparsity_core.weights import Masks, masked_parameters


@dataclass(frozen=True, eq=False)
class Place:
    """Everything that decides how a course goes on, besides data, training and masks.

    Nothing of the data's order is here: it follows from the seed and the step. Tensors are on the
    CPU or where the course runs.
    """

    step: int
    model: dict[str, Tensor]  # parameters and buffers, so batch normalisation's statistics too
    optimizer: dict[str, Any]
    randomness: list[Tensor]  # what dropout and the like draw from next

    def to_dict(self) -> dict[str, Any]:
        """The place as tensors and plain data, for `torch.save`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Course:
    """Trains a model in place, step by step.

    What `masks` (True = stays; any parameter by its name) leave out is zero before, during and
    after: so are its gradients, before they are clipped, and its momentum. `seed` decides the
    order of the data and dropout; the global random state is left alone. The model is in eval mode
    between calls.
    """

    def __init__(
        self,
        model: nn.Module,
        split: Split,
        training: Training,
        *,
        loss: PerSample = cross_entropy,
        masks: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.sizes = batch_sizes(model, split, training.batch_size)
        self.steps = training.epochs * len(self.sizes) if training.steps is None else training.steps
        self.step = 0
        self.model = model.to(device).eval()
        self.split = split.to(device)  # once, or every step would copy its samples
        self.training = training
        self.loss = _smoothed(loss, training.label_smoothing)
        self.measured_loss = loss  # without smoothing
        self.masks: Masks = {}
        self.seed = seed
        self.device = device
        self._optimizer = _optimizer(model, training)
        self._order = torch.Generator().manual_seed(seed)
        self._drawn = 0  # epochs of the order
        self._batches: tuple[Tensor, ...] = ()
        self._randomness = Randomness(seed, device)
        self.mask_(masks or {})

    @property
    def rate(self) -> float:
        """The rate of the last step that was made, or of the first."""
        return rate_at(self.training, max(self.step - 1, 0), max(self.steps, 1))

    def advance_(self, until: int | None = None) -> list[float]:
        """Train until so many steps are made in all; each step's mean loss.

        Raises NonFiniteError when the loss becomes NaN or infinite.
        """
        losses: list[float] = []
        until = self.steps if until is None else min(until, self.steps)
        with _train_mode(self.model), self._randomness.in_use():
            while self.step < until:
                losses.append(self._one_step_())
        return losses

    @torch.no_grad()
    def mask_(self, masks: Mapping[str, Tensor]) -> None:
        """Other masks from here on; weights and momentum of what goes become zero."""
        self.masks = {name: mask.to(self.device) for name, mask in masks.items()}
        parameters = masked_parameters(self.model, self.masks)
        self._masked = [(parameters[name], mask) for name, mask in self.masks.items()]
        for parameter, mask in self._masked:
            keep_(parameter, mask)
            for key, value in self._optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and key != "step":  # a count
                    keep_(value, mask)

    def state(self) -> dict[str, Tensor]:
        """The model's parameters and buffers as they are; later steps do not change them."""
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def place(self) -> Place:
        """Where the course stands; later steps do not change it."""
        return Place(
            self.step,
            self.state(),
            copy.deepcopy(self._optimizer.state_dict()),
            [state.clone() for state in self._randomness.states],
        )

    def go_to_(self, place: Place, *, same_order: bool = True) -> None:
        """Stand where a course of the same model and training stood, under this one's masks.

        With `same_order=False` the order and dropout are this course's seed's from there on: two
        such courses differ by the noise of SGD alone.
        """
        self.model.load_state_dict(place.model)
        self._optimizer.load_state_dict(copy.deepcopy(place.optimizer))
        self.step = place.step
        if same_order:
            self._randomness.states = [state.clone() for state in place.randomness]
        self.mask_(self.masks)

    def _one_step_(self) -> float:
        value = self._measure_()
        self._learn_()
        return value

    def _measure_(self) -> float:
        """Take the next batch: its mean loss, and dense gradients in the parameters."""
        indices = self._next_indices()
        rate = rate_at(self.training, self.step, self.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.step += 1
        # Copies whole samples, where indexing goes number by number.
        targets = self.split.targets.index_select(0, indices)
        outputs = self._outputs(self.split.inputs.index_select(0, indices))
        if self.step == 1:
            check_labels(self.split, outputs, self.split.targets)
        mean = self.loss(outputs, targets).mean()
        value = mean.item()
        if not math.isfinite(value):
            epoch = (self.step - 1) // len(self.sizes) + 1
            remedy = "lower the rate or clip the gradients"
            if self.step == 1:
                remedy = "nothing is trained yet: mend the model's weights or its data"
            raise NonFiniteError(
                f"the loss became {value} in epoch {epoch}, step {self.step}; {remedy}"
            )
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # 20 us where the optimizer's zero_grad takes 130
        mean.backward()
        return value

    def _learn_(self) -> None:
        """The optimizer's step, with what gradients the parameters hold."""
        # Zero weight, zero gradient, zero momentum: the step leaves zero, so this is all that
        # masking takes.
        for parameter, mask in self._masked:
            if parameter.grad is not None:
                keep_(parameter.grad, mask)
        if self.training.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)
        self._optimizer.step()

    def _outputs(self, inputs: Tensor) -> Tensor:
        if self.training.precision == "float32":
            return self.model(inputs)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            return self.model(inputs).float()

    def _next_indices(self) -> Tensor:
        epoch, batch = divmod(self.step, len(self.sizes))
        if self._drawn > epoch + 1:  # gone back
            self._order.manual_seed(self.seed)
            self._drawn = 0
        while self._drawn <= epoch:
            drawn = torch.randperm(len(self.split), generator=self._order).to(self.device)
            self._batches = drawn.split(self.sizes)
            self._drawn += 1
        return self._batches[batch]


def _smoothed(loss: PerSample, smoothing: float) -> PerSample:
    """The loss with labels smoothed: 1 - smoothing on the label, the rest on all classes alike."""
    if not smoothing:
        return loss
    if loss is not cross_entropy:
        raise SparsityError("label_smoothing needs the cross-entropy loss; set it to 0")
    return lambda outputs, targets: F.cross_entropy(
        outputs, targets, reduction="none", label_smoothing=smoothing
    )


def _optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise SparsityError("every parameter is frozen; call model.requires_grad_() to train it")
    # One pass over the weights instead of ten: a step of LeNet-300-100 with Adam takes 60 % of the
    # time that torch's default takes on a CPU.
    options: dict[str, Any] = {"lr": training.rate, "weight_decay": training.weight_decay}
    options["fused"] = all(p.device.type in ("cpu", "cuda") for p in trained)
    if training.optimizer in ("sgd", "nesterov"):
        options |= {"momentum": training.momentum, "nesterov": training.optimizer == "nesterov"}
        return torch.optim.SGD(trained, **options)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(trained, **options)
    return torch.optim.Adam(trained, **options)


@contextmanager
def _train_mode(model: nn.Module) -> Iterator[None]:
    """Train mode; eval mode and no gradients afterwards, whatever happens."""
    model.train()
    try:
        yield
    finally:
        model.eval()
        model.zero_grad()
