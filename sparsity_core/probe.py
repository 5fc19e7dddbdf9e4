"""A model seen through a few batches: gradients and input norms, each measured once."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_core.copied import copied
from sparsity_core.errors import SparsityError
from sparsity_core.moments import Moments, input_moments
from sparsity_core.trace import Use, single_products, watch
from sparsity_core.weights import Masks, Weights, check_finite, mask_, prunable

T = TypeVar("T")
Batch = tuple[Tensor, Tensor]  # inputs, targets
Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> mean loss, or one loss a sample


class Probe:
    """What scorers may know of a model.

    It works on its own copy of the model, in evaluation mode (norms use their running statistics),
    under `masks`. `batches` may be empty for scorers that need no data; `seed` is for scorers that
    draw random numbers. `own_copy=False` looks at the model itself, which must be in evaluation
    mode: for models too large to have twice; then there can be no masks.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Batch] = (),
        loss: Loss = F.cross_entropy,
        masks: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        own_copy: bool = True,
    ) -> None:
        if not own_copy and (masks or model.training):
            raise SparsityError(
                "a probe without its own copy needs a model in evaluation mode and no masks; "
                "call model.eval() and mask_(model, masks) first"
            )
        self.model = copied(model).eval().requires_grad_(False) if own_copy else model
        self.batches = list(batches)
        self.loss_function = loss
        self.masks: Masks = dict(masks or {})
        self.seed = seed
        self.layers = prunable(self.model)
        self._known: dict[Hashable, Any] = {}
        mask_(self.model, self.masks)

    def only(self, names: Iterable[str]) -> "Probe":
        """The same model, of which only these layers are looked at; costs the memory of these.

        So layers can be scored one after another: `prune(probe.only([name]), recipe)`.
        """
        part = Probe.__new__(Probe)
        part.model, part.batches, part.loss_function = self.model, self.batches, self.loss_function
        part.masks, part.seed, part._known = self.masks, self.seed, {}
        part.layers = {name: self.layers[name] for name in names}
        return part

    def once(self, key: Hashable, measure: Callable[[], T]) -> T:
        """What `measure` answers, asked only the first time for a key."""
        if key not in self._known:
            self._known[key] = measure()
        return self._known[key]

    @cached_property
    def weights(self) -> Weights:
        """The prunable weights under the masks."""
        parameters = dict(self.model.named_parameters())
        return {name: parameters[name].detach() for name in self.layers}

    @cached_property
    def gradients(self) -> Weights:
        """dL/dw of the mean loss over all samples, at pruned weights too; zero where unused."""
        return self._over_batches(self._gradient)

    def gradient_at(self, batch: Batch, weights: Weights) -> Weights:
        """dL/dw of the mean loss over one batch, at other weights than the model's."""
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        return dict(zip(leaves, self._gradient(batch, leaves), strict=True))

    def sample_gradients(self) -> Iterator[Weights]:
        """dL_n/dw of each sample in turn, one backward pass a sample."""
        self.require_samples()
        for inputs, targets in self.batches:
            for i in range(len(inputs)):
                found = self.gradient_at((inputs[i : i + 1], targets[i : i + 1]), self.weights)
                for name, gradient in found.items():
                    check_finite(name, gradient, "gradients")
                yield found

    @cached_property
    def squared_gradients(self) -> Weights:
        """The mean over samples of (dL_n/dw)^2."""
        total = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        for gradients in self.sample_gradients():
            for name, gradient in gradients.items():
                total[name] += gradient.square() / self.samples
        return total

    def hessian_times(self, vector: Weights) -> Weights:
        """H v, H the Hessian of the mean loss over all samples in the prunable weights."""

        def product(batch: Batch, leaves: dict[str, Tensor]) -> list[Tensor]:
            with single_products():  # fused attention has no second derivative
                gradient = self._gradient(batch, leaves, create_graph=True)
                # A gradient that depends on no weight has no graph, and its product is zero.
                dot = sum((g * vector[n]).sum() for n, g in zip(leaves, gradient, strict=True))
                if not isinstance(dot, Tensor) or not dot.requires_grad:
                    return [torch.zeros_like(leaf) for leaf in leaves.values()]
                found = torch.autograd.grad(dot, list(leaves.values()), allow_unused=True)
            return [_or_zero(g, leaf) for g, leaf in zip(found, leaves.values(), strict=True)]

        return self._over_batches(product)

    def with_outputs_over(self, temperature: float) -> "Probe":
        """The same probe, but its loss sees outputs divided by `temperature`."""

        def cooled(outputs: Tensor, targets: Tensor) -> Tensor:
            return self.loss_function(outputs / temperature, targets)

        return Probe(self.model, self.batches, cooled, self.masks, self.seed)

    @property
    def first_input(self) -> Tensor:
        """The first sample, with its batch axis."""
        self.require_samples()
        return self.batches[0][0][:1]

    @cached_property
    def input_energy(self) -> Weights:
        """Sum of squares of what each weight is multiplied by, in the weight's shape, float32.

        For Linear entry (i, j) is sum_x x_j^2 over all samples and positions; for a convolution
        the sum runs over the input values under that kernel position, padding included as zeros.
        """
        energy = {n: torch.zeros(w.shape, device=w.device) for n, w in self.weights.items()}

        def add(use: Use) -> None:
            energy[use.name][use.rows] += use.input_energy()

        self._forward(add)
        return energy

    def input_moments(self, layer: str) -> list[Moments]:
        """Second moments of a layer's inputs; one forward pass, kept by nobody: they are large."""
        self.require_samples()
        return input_moments(self.model, layer, self.batches)

    @cached_property
    def uses(self) -> dict[str, int]:
        """How often each weight enters a product in the forward pass of one batch."""
        count = dict.fromkeys(self.layers, 0)

        def add(use: Use) -> None:
            count[use.name] += 1

        self._forward(add, self.batches[:1])
        return count

    @cached_property
    def macs(self) -> dict[str, int]:
        """Multiply-adds of each layer for one sample."""
        count = dict.fromkeys(self.layers, 0)

        def add(use: Use) -> None:
            count[use.name] += use.output.numel() * math.prod(self.layers[use.name].shape[1:])

        self._forward(add, [(self.first_input, self.batches[0][1][:1])])
        return count

    @property
    def samples(self) -> int:
        """How many samples the batches hold together."""
        return sum(len(inputs) for inputs, _ in self.batches)

    def require_samples(self) -> None:
        """Raise SparsityError when there are none."""
        if not self.samples:
            raise SparsityError(
                "the probe has no batches, and this scorer needs data; "
                "give Probe(model, batches) or choose a scorer that needs none, such as magnitude"
            )

    def _over_batches(self, measure: Callable[[Batch, dict[str, Tensor]], list[Tensor]]) -> Weights:
        """The mean of `measure` over batches, each weighted by its samples; finite or an error."""
        total = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        leaves = {name: w.detach().requires_grad_() for name, w in self.weights.items()}
        self.require_samples()
        for batch in self.batches:
            for name, value in zip(leaves, measure(batch, leaves), strict=True):
                total[name] += value * (len(batch[0]) / self.samples)
        for name, value in total.items():
            check_finite(name, value, "gradients")
        return total

    def _gradient(
        self, batch: Batch, leaves: dict[str, Tensor], create_graph: bool = False
    ) -> list[Tensor]:
        inputs, targets = batch
        outputs = torch.func.functional_call(self.model, leaves, (inputs,))
        loss = self.loss_function(outputs, targets).mean()
        found = torch.autograd.grad(
            loss, list(leaves.values()), create_graph=create_graph, allow_unused=True
        )
        return [_or_zero(g, leaf) for g, leaf in zip(found, leaves.values(), strict=True)]

    def _forward(self, seen: Callable[[Use], None], batches: list[Batch] | None = None) -> None:
        self.require_samples()

        def chosen(use: Use) -> None:
            if use.name in self.layers:
                seen(use)

        with torch.no_grad(), watch(self.model, chosen):
            for inputs, _ in self.batches if batches is None else batches:
                self.model(inputs)


def _or_zero(gradient: Tensor | None, leaf: Tensor) -> Tensor:
    """A weight that the loss does not depend on has no gradient, which is zero."""
    return torch.zeros_like(leaf) if gradient is None else gradient
