"""A training whose masks move: when to ask the rule, and what its answer does to the weights."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.course import Course, Place, bits_of, keep_
from sparsity_core.data import Split
from sparsity_core.dynamic.forward import ForwardRule
from sparsity_core.dynamic.history import History
from sparsity_core.dynamic.rule import Clock, Report, State, UpdateRule, generator_for
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
        self._forward = rule if isinstance(rule, ForwardRule) else None
        first = rule.first(self._weights(), self.kept, seed)
        self.live: Masks = {name: mask.to(device) for name, mask in first.items()}
        self.learned: dict[str, nn.Parameter] = {}
        self.trained: Masks = {}
        self._averages: dict[str, Tensor] = {}
        if rule.averages_gradients:
            self._averages = {n: torch.zeros_like(p.data) for n, p in self.layers.items()}
        if self._forward:
            self._prepare_(self._forward)
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
        if not self._forward:
            yield
            return
        kept = {name: parameter.data for name, parameter in self.layers.items()}
        try:
            for name, parameter in self.layers.items():
                learned = self.learned.get(name)
                parameter.data = self._forward.used(
                    kept[name], self.live[name], None if learned is None else learned.data
                )
            yield
        finally:
            for name, parameter in self.layers.items():
                parameter.data = kept[name]

    def refresh_(self) -> None:
        """Bring `live`, and what is counted by it, up to date where it follows from the weights."""
        if not self._forward:
            return
        live = {
            name: self._forward.live(parameter.data, self.live[name], self._learned_of(name))
            for name, parameter in self.layers.items()
        }
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
        self.trained = self._here(saved["trained"])
        self._averages = self._here(saved["averages"])
        for name, value in saved["learned"].items():
            self.learned[name].data = value.to(self.device, copy=True)
        self.history = History(**copy.deepcopy(saved["history"]))
        self.spent = saved["spent"]
        if not self._forward:
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
        elif self._forward:
            self._learn_forward_(self._forward, clock)
        else:
            self._learn_()
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
        if self._forward:
            self._choose_trained_(self._forward)
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
            bits = bits_of(~born, parameter)  # quicker than masked_fill_
            if values is None:
                keep_(parameter, bits)
            else:
                parameter[born] = values.to(parameter.device)[born]
            for key, value in self._optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and key != "step":  # a count
                    keep_(value, bits)

    def _prepare_(self, rule: ForwardRule) -> None:
        """What a rule that keeps all weights has besides."""
        for name, parameter in self.layers.items():
            if (value := rule.learned(parameter.data)) is not None:
                self.learned[name] = nn.Parameter(value)
        if self.learned:
            decay = self.training.weight_decay if rule.learned_decays else 0.0
            self._optimizer.add_param_group(
                {"params": list(self.learned.values()), "weight_decay": decay}
            )
        self._choose_trained_(rule)
        for name, parameter in self.layers.items():
            live = rule.live(parameter.data, self.live[name], self._learned_of(name))
            self.live[name] = live

    def _choose_trained_(self, rule: ForwardRule) -> None:
        self.trained = {
            name: rule.trained(p.data, self.live[name], self.kept[name], self.clock)
            for name, p in self.layers.items()
        }

    def _learn_forward_(self, rule: ForwardRule, clock: Clock) -> None:
        """The optimizer's step from gradients of what was used."""
        partly = {}
        for name, parameter in self.layers.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            learned = self._learned_of(name)
            own, besides = rule.gradients(gradient, parameter.data, self.live[name], learned, clock)
            trained = self.trained[name]
            if not trained.all():
                own = own.masked_fill(~trained, 0)
                partly[name] = parameter.data.clone()
            parameter.grad = own
            if besides is not None:
                self.learned[name].grad = besides
        self._learn_()
        with torch.no_grad():
            for name, before in partly.items():  # neither decay nor momentum moves the others
                self.layers[name].copy_(torch.where(self.trained[name], self.layers[name], before))
        for name, value in self.learned.items():
            value.data = rule.settled(self.layers[name].data, value.data)

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.data for name, parameter in self.layers.items()}

    def _gradients(self) -> dict[str, Tensor]:
        return {
            name: torch.zeros_like(p.data) if p.grad is None else p.grad
            for name, p in self.layers.items()
        }

    def _learned_of(self, name: str) -> Tensor | None:
        return self.learned[name].data if name in self.learned else None

    def _count_(self) -> None:
        self._macs = self._products.of(self.live)

    def _here(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device, copy=True) for name, value in tensors.items()}


def _cloned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in tensors.items()}
