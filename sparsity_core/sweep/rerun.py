"""The outputs of a model with one layer masked, by running again only what the layer reaches."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparsity_core.comparison import masked
from sparsity_core.sweep.program import Program, suffix_of
from sparsity_core.sweep.walk import Walk, bytes_per_sample, route_of
from sparsity_core.weights import Masks, Prunable, prunable
from sparsity_core.workbench import Workbench

BATCH = 512  # samples at a time, as train.evaluate has them: other shapes may give other bits
BUDGET = 2**30  # bytes of dense values that may be kept between layers
CHECKED = 8  # samples on which a program has to do what the model does before it is used


class Rerun:
    """A program of the model, on the samples of a workbench.

    Dense values of as many batches as the budget admits are kept from layer to layer; each further
    batch passes through once a layer, for all of its masks.
    """

    def __init__(self, bench: Workbench, program: Program, budget: int = BUDGET) -> None:
        self.model = bench.model
        self.program = program
        self.layers = prunable(self.model)
        found = {n: suffix_of(program, (n, *p.biases)) for n, p in self.layers.items()}
        self.suffixes = {name: suffix for name, suffix in found.items() if suffix.steps}
        self.route = route_of(program, self.suffixes)
        self.batches = bench.samples.inputs.split(BATCH)
        self.batch_bytes = BATCH * bytes_per_sample(self.route, self.batches[0][:CHECKED])
        fitting = budget // self.batch_bytes if self.batch_bytes else len(self.batches)
        self.walks = [Walk(self.route, inputs) for inputs in self.batches[:fitting]]

    @property
    def held_bytes(self) -> int:
        """The dense values that are held between two layers, at most; one batch passes besides."""
        return self.batch_bytes * len(self.walks)

    @torch.no_grad()
    def why_not(self, layer: str, same: Callable[[Tensor, Tensor], bool]) -> str:
        """Why the program cannot measure a layer, tried on a few samples; "" when it can."""
        if layer not in self.suffixes:
            return "no step of the program uses the layer"
        sample = self.batches[0][:CHECKED]
        dense = Walk(self.route, sample).to(layer)
        with masked(self.model, _every_second(self.model, self.layers[layer])) as model:
            expected, found = model(sample), self.suffixes[layer](dense)
        if isinstance(found, Tensor) and same(expected, found):
            return ""
        return "the captured program gives other outputs than the model"

    def outputs(self, layer: str, variants: Sequence[Masks]) -> Callable[[int], list[Tensor]]:
        """For each of the variants, by its place, the model's outputs for all batches in order."""
        suffix = self.suffixes[layer]
        passing: list[list[Tensor]] = []

        @torch.no_grad()
        def pass_by() -> None:
            made: list[list[Tensor]] = [[] for _ in variants]
            for inputs in self.batches[len(self.walks) :]:
                dense = Walk(self.route, inputs).to(layer)
                for outputs, masks in zip(made, variants, strict=True):
                    with masked(self.model, masks):
                        outputs.append(suffix(dense))
            passing.extend(made)

        @torch.no_grad()
        def of(variant: int) -> list[Tensor]:
            if not passing:
                pass_by()
            kept = [walk.to(layer) for walk in self.walks]
            with masked(self.model, variants[variant]):
                return [suffix(dense) for dense in kept] + passing[variant]

        return of


def _every_second(model: torch.nn.Module, layer: Prunable) -> Masks:
    """Masks of a layer and its biases that leave out every second weight."""
    parameters = dict(model.named_parameters())
    shapes = [(name, parameters[name].shape) for name in (layer.name, *layer.biases)]
    return {name: (torch.arange(shape.numel()) % 2 == 0).view(shape) for name, shape in shapes}
