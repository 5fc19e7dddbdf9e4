"""Training that is really sparse: weights, gradients and optimizer of living weights alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.course import Course, Place
from sparsity_core.data import Split
from sparsity_core.dynamic.course import Products
from sparsity_core.dynamic.history import History
from sparsity_core.dynamic.rule import Clock, State, UpdateRule, generator_for
from sparsity_core.dynamic.sparse_linear import SparseLinear
from sparsity_core.errors import SparsityError
from sparsity_core.recipe import Training
from sparsity_core.task import PerSample, cross_entropy
from sparsity_core.weights import Masks, prunable


class SparseCourse(Course):
    """As `MovingCourse`, for linear layers on a CPU and rules that look at one layer at a time.

    Between updates nothing has the size of the dense layers. An update makes one layer after
    another dense for a moment. Which weights ever lived is not kept.
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
        products: Products | None = None,
    ) -> None:
        if reason := why_not_sparse(model, rule):
            raise SparsityError(f"cannot train sparsely: {reason}; choose simulated")
        self.rule, self.kept = rule, dict(kept)
        self._last = list(prunable(model))[-1]
        self._sizes = {n: p.numel() for n, p in model.named_parameters() if n in kept}
        weights = {n: p.data for n, p in model.named_parameters() if n in kept}
        masks = rule.first(weights, self.kept, seed)
        self.layers = {name: _replaced_(model, name, mask) for name, mask in masks.items()}
        super().__init__(model, split, training, loss=loss, seed=seed)
        self._products = products or Products(dict.fromkeys(kept, 1.0))
        self.history = History({})
        self.spent = 0.0
        self._count_()

    @property
    def clock(self) -> Clock:
        """Where the course stands."""
        return Clock(self.step, self.steps, len(self.sizes))

    @property
    def live(self) -> Masks:
        """Which weights live; made anew at each call."""
        return {name: layer.mask() for name, layer in self.layers.items()}

    @property
    def macs(self) -> float:
        """Multiply-adds of a forward pass for one sample with what lives."""
        return self._macs

    @property
    def dense_macs(self) -> float:
        """Of a forward pass for one sample without masks."""
        each = self._products.each
        return self._products.others + sum(each[n] * size for n, size in self._sizes.items())

    @property
    def bytes(self) -> int:
        """Weights with their places, gradients, and the optimizer's tensors, of all parameters."""
        parameters = list(self.model.parameters())
        found = [*parameters, *parameters, *self.model.buffers()]  # gradients are as large
        found += [
            value
            for state in self._optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ]
        return sum(tensor.numel() * tensor.element_size() for tensor in found)

    @contextmanager
    def as_used(self) -> Iterator[None]:
        """The model as it is."""
        yield

    def refresh_(self) -> None:
        """Nothing follows from the weights."""

    def plain_state(self) -> dict[str, Tensor]:
        """The state of the plain model with zeros, same keys as ever."""
        found = {}
        for name, value in self.state().items():
            path, _, part = name.rpartition(".")
            layer = self.layers.get(f"{path}.weight".lstrip("."))
            if layer is None or part == "bias":
                found[name] = value
            elif part == "values":
                found[f"{path}.weight".lstrip(".")] = layer.dense()
        return found

    def save(self) -> dict[str, Any]:
        """Everything that decides how the course goes on, as tensors and plain data."""
        return {
            "place": self.place().to_dict(),
            "history": self.history.to_dict(),
            "spent": self.spent,
        }

    def resume_(self, saved: Mapping[str, Any]) -> None:
        """Stand where a course of the same model, training, rule and budgets was saved."""
        state = saved["place"]["model"]
        for name, layer in self.layers.items():
            path = name.removesuffix("weight")
            layer.starts, layer.columns = state[f"{path}starts"], state[f"{path}columns"]
            layer.values.data = state[f"{path}values"].clone()
        self.go_to_(Place(**saved["place"]))
        self.history, self.spent = History(**saved["history"]), saved["spent"]
        self._count_()

    def _one_step_(self) -> float:
        clock = self.clock
        due = self.rule.due(clock)
        if due and not self.rule.needs_gradients:
            self._update_(clock)
        samples = self.sizes[clock.step % len(self.sizes)]
        self.spent += samples * self.rule.training_macs(self._macs, self.dense_macs, clock)
        growing = due and self.rule.needs_gradients
        for layer in self.layers.values():
            layer.watched = growing
        value = self._measure_()
        if growing:
            self._update_(clock)
        else:
            self._learn_()
        return value

    def _update_(self, clock: Clock) -> None:
        for name, layer in self.layers.items():
            self._update_layer_(name, layer, clock)
        self._count_()

    @torch.no_grad()
    def _update_layer_(self, name: str, layer: SparseLinear, clock: Clock) -> None:
        before, weight = layer.mask(), layer.dense()
        gradient = layer.dense_gradient() if self.rule.needs_gradients else None
        state = State(
            clock=clock,
            weights={name: weight},
            gradients={} if gradient is None else {name: gradient},
            masks={name: before},
            kept={name: self.kept[name]},
            last=self._last,
            seed=self.seed,
        )
        masks, report = self.rule.update(state)
        mask = masks[name]
        born = mask & ~before
        self.history.counts["born"] += int(born.sum())
        self.history.counts["died"] += int((before & ~mask).sum())
        self.history.ablated |= report.ablated
        born |= report.reborn.get(name, torch.zeros_like(born))
        make = generator_for(self.seed, clock.step, f"{name} newborn")
        values = self.rule.newborn(tuple(weight.shape), make)
        weight[born] = 0 if values is None else values[born]
        moments = {
            key: layer.dense(value)
            for key, value in self._optimizer.state.get(layer.values, {}).items()
            if isinstance(value, Tensor) and key != "step"
        }
        layer.take_(mask, weight[mask])
        for key, moment in moments.items():
            moment[born] = 0
            self._optimizer.state[layer.values][key] = moment[mask]

    def _count_(self) -> None:
        living = {name: layer.columns.numel() for name, layer in self.layers.items()}
        each = self._products.each
        self._macs = self._products.others + sum(each[n] * count for n, count in living.items())


def why_not_sparse(model: nn.Module, rule: UpdateRule) -> str | None:
    """Why a model cannot be trained sparsely under a rule, or None when it can."""
    if not rule.layerwise:
        return f"{type(rule).__name__} needs all weights, or several layers at once"
    for name, layer in prunable(model).items():
        if layer.kind != "linear":
            return f"{name} is no linear layer"
        if layer.aliases:
            return f"{name} is {layer.note}"
    return None


def _replaced_(model: nn.Module, name: str, mask: Tensor) -> SparseLinear:
    """Put a sparse layer in the place of the linear layer whose weight is named."""
    path = name.removesuffix(".weight")
    parent, _, attribute = path.rpartition(".")
    linear = model.get_submodule(path)
    assert isinstance(linear, nn.Linear)
    layer = SparseLinear(linear.weight, mask, linear.bias)
    setattr(model.get_submodule(parent), attribute, layer)
    return layer
