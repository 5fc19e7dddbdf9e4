"""A training whose masks move: when to ask the rule, and what its answer does to the weights."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.course import Course, Place
from sparsity_core.data import Split
from sparsity_core.dynamic.all_weights import AllWeights
from sparsity_core.dynamic.forward import ForwardRule
from sparsity_core.dynamic.history import History
from sparsity_core.dynamic.rule import Clock, Report, State, UpdateRule, generator_for
from sparsity_core.keep import keep_
from sparsity_core.recipe import Training
from sparsity_core.selection import how_many
from sparsity_core.task import PerSample, cross_entropy
from sparsity_core.weights import Masks, prunable


@dataclass(frozen=True)
class Products:
    """Multiply-adds for one sample: of each weight of a layer, and of all that is never masked."""

    each: Mapping[str, float]
    others: float = 0.0

    def of(self, masks: Mapping[str, Tensor]) -> float:
        """With what lives under masks."""
        live = {name: how_many(mask) for name, mask in masks.items()}
        return self.others + sum(self.each[name] * count for name, count in live.items())


class MovingCourse(Course):
    """A course under a rule; layers and their budgets are the keys and values of `kept`.

    `live` says which weights the forward pass uses. For most rules all others are zero. A
    `ForwardRule` keeps them, in the model too: look at the model inside `as_used()`.
    """

    def __init__(
        self,
        model: nn.Module,
        split: Split,
        training: Training,
        rule: UpdateRule,
        kept: Mapping[str, int],
        *,
        loss: PerSample = cross_entropy,
        seed: int = 0,
        device: str = "cpu",
        products: Products | None = None,
    ) -> None:
        super().__init__(model, split, training, loss=loss, seed=seed, device=device)
        self.rule = rule
        self.kept = dict(kept)
        parameters = dict(model.named_parameters())
        self.layers = {name: parameters[name] for name in kept}
        self._last = list(prunable(model))[-1]
        self._products = products or Products(dict.fromkeys(kept, 1.0))
        self._all: AllWeights | None = None
        if isinstance(rule, ForwardRule):
            self._all = AllWeights(rule, self.layers, self.kept)
        first = rule.first(self._weights(), self.kept, seed)
        self.live: Masks = {name: mask.to(device) for name, mask in first.items()}
        self._averages: dict[str, Tensor] = {}
        if rule.averages_gradients:
            self._averages = {n: torch.zeros_like(p.data) for n, p in self.layers.items()}
        if self._all:
            self._prepare_(self._all)
        else:
            self.mask_(self.live)
        self.history = History(self.live)
        self.spent = 0.0  # multiply-adds of all steps so far, over all samples
        self._count_()

    @property
    def clock(self) -> Clock:
        """Where the course stands."""
        return Clock(self.step, self.steps, len(self.sizes))

    @property
    def learned(self) -> dict[str, nn.Parameter]:
        """What layers learn besides their weights, such as thresholds."""
        return self._all.learned if self._all else {}

    @property
    def trained(self) -> Masks:
        """Under a rule that keeps all weights, where the optimizer may change them."""
        return self._all.trained if self._all else {}

    @property
    def macs(self) -> float:
        """Multiply-adds of a forward pass for one sample with what lives."""
        return self._macs

    @property
    def dense_macs(self) -> float:
        """Of a forward pass for one sample without masks."""
        each = self._products.each
        whole = sum(each[n] * p.numel() for n, p in self.layers.items())
        return self._products.others + whole

    @contextmanager
    def as_used(self) -> Iterator[None]:
        """The model with the weights that the forward pass uses, and no others."""
        with self._all.in_use(self.live) if self._all else nullcontext():
            yield

    def refresh_(self) -> None:
        """Bring `live`, and what is counted by it, up to date where it follows from the weights."""
        if not self._all:
            return
        live = self._all.live(self.live)
        self.history.note_(self.live, live, {})
        self.live = live
        self._count_()

    def plain_state(self) -> dict[str, Tensor]:
        """The state of the model with the weights that the forward pass uses."""
        with self.as_used():
            return self.state()

    def save(self) -> dict[str, Any]:
        """Everything that decides how the course goes on, as tensors and plain data."""
        return {
            "place": self.place().to_dict(),
            "live": _cloned(self.live),
            "trained": _cloned(self.trained),
            "averages": _cloned(self._averages),
            "learned": {name: value.detach().clone() for name, value in self.learned.items()},
            "history": self.history.to_dict(),
            "spent": self.spent,
        }

    def resume_(self, saved: Mapping[str, Any]) -> None:
        """Stand where a course of the same model, training, rule and budgets was saved."""
        self.live = self._here(saved["live"])
        if self._all:
            self._all.trained = self._here(saved["trained"])
        self._averages = self._here(saved["averages"])
        for name, value in saved["learned"].items():
            self.learned[name].data = value.to(self.device, copy=True)
        self.history = History(**copy.deepcopy(saved["history"]))
        self.spent = saved["spent"]
        if not self._all:
            self.masks = self.live
        self.go_to_(Place(**saved["place"]))
        self._count_()

    def _one_step_(self) -> float:
        clock = self.clock
        due = self.rule.due(clock)
        if due and not self.rule.needs_gradients:
            self._update_(clock)
        samples = self.sizes[clock.step % len(self.sizes)]
        self.spent += samples * self.rule.training_macs(self._macs, self.dense_macs, clock)
        with self.as_used():
            value = self._measure_()
        if self.rule.averages_gradients:
            for name, gradient in self._gradients().items():
                self._averages[name].mul_(self.rule.averages_gradients).add_(gradient)
        if due and self.rule.needs_gradients:
            self._update_(clock)
        else:
            self._learn_from_(clock)
        return value

    def _update_(self, clock: Clock) -> None:
        state = State(
            clock=clock,
            weights=self._weights(),
            gradients=self._gradients() if self.rule.needs_gradients else {},
            masks=self.live,
            kept=self.kept,
            last=self._last,
            averages=self._averages,
            seed=self.seed,
        )
        before = self.live
        masks, report = self.rule.update(state)
        self.live = masks
        self.history.note_(before, masks, report.ablated)
        if self._all:
            self._all.choose_trained_(masks, self.clock)
        else:
            self.mask_(masks)
            self._begin_anew_(before, report, clock)
        self._count_()

    @torch.no_grad()
    def _begin_anew_(self, before: Masks, report: Report, clock: Clock) -> None:
        """First value and a cleared optimizer for what is born."""
        for name, parameter in self.layers.items():
            make = generator_for(self.seed, clock.step, f"{name} newborn")
            values = self.rule.newborn(tuple(parameter.shape), make)
            if values is None and name not in report.reborn:
                continue  # what was dead has zeros, and so has its optimizer
            born = self.live[name] & ~before[name]
            if name in report.reborn:
                born |= report.reborn[name]
            others = ~born
            if values is None:
                keep_(parameter, others)
            else:
                parameter[born] = values.to(parameter.device)[born]
            for key, value in self._optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and key != "step":  # a count
                    keep_(value, others)

    def _prepare_(self, everything: AllWeights) -> None:
        """Let the optimizer know what is learned besides, and what lives."""
        if learned := list(everything.learned.values()):
            decay = self.training.weight_decay if everything.rule.learned_decays else 0.0
            self._optimizer.add_param_group({"params": learned, "weight_decay": decay})
        everything.choose_trained_(self.live, self.clock)
        self.live = everything.live(self.live)

    def _learn_from_(self, clock: Clock) -> None:
        """The optimizer's step, from gradients of what was used."""
        if self._all:
            self._all.before_step_(self.live, clock)
        self._learn_()
        if self._all:
            self._all.after_step_()

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.data for name, parameter in self.layers.items()}

    def _gradients(self) -> dict[str, Tensor]:
        return {
            name: torch.zeros_like(p.data) if p.grad is None else p.grad
            for name, p in self.layers.items()
        }

    def _count_(self) -> None:
        self._macs = self._products.of(self.live)

    def _here(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device, copy=True) for name, value in tensors.items()}


def _cloned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in tensors.items()}
