"""The dense model's values, batch by batch, as far as the layer that is measured now.

Layers are visited in the order of the model's parameters. Between two visits a batch keeps only
what the suffix of this layer or of a later one starts from, so where the model uses them in about
that order the whole walk costs one forward pass, whatever the depth.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from sparsity_core.sweep.program import INPUT, Course, Program, Step, Suffix, Values


@dataclass(frozen=True, eq=False)
class Stage:
    """The way from one layer to the next."""

    layer: str
    course: Course


@dataclass(frozen=True, eq=False)
class Route:
    """The stages of a model in order, and its values that depend on no input."""

    stages: tuple[Stage, ...]
    constants: Values


@torch.no_grad()
def route_of(program: Program, suffixes: Mapping[str, Suffix]) -> Route:
    """The way through a program that passes where each layer's suffix starts, in their order.

    That of the model's parameters, in which layers are measured: going back costs a new start.
    """
    constant: dict[str, Step] = {}
    for step in program.steps:
        if all(name in constant for name in step.reads):
            constant[step.name] = step
    order = list(suffixes)
    stages = []
    have = {INPUT, *constant}
    for i, layer in enumerate(order):
        steps = _ancestors(program, suffixes[layer].needs, have)
        have |= {step.name for step in steps}
        later = [name for other in order[i:] for name in suffixes[other].needs]
        have = _sources(program, later, have) | {INPUT, *constant}
        stages.append(Stage(layer, Course(steps, have - constant.keys())))
    return Route(tuple(stages), Course(tuple(constant.values()), constant).run({}))


class Walk:
    """One batch on its way along a route."""

    def __init__(self, route: Route, inputs: Tensor) -> None:
        self.route = route
        self.inputs = inputs
        self._values: Values = {INPUT: inputs}
        self._passed = 0  # stages

    @property
    def held(self) -> Values:
        """What it keeps, besides the inputs and what all batches share."""
        return {name: value for name, value in self._values.items() if name != INPUT}

    @torch.no_grad()
    def to(self, layer: str) -> Values:
        """The dense values that the layer's suffix needs, among others; backwards costs a restart.

        The model must be dense meanwhile.
        """
        names = [stage.layer for stage in self.route.stages]
        target = names.index(layer)
        if target < self._passed - 1:
            self._values, self._passed = {INPUT: self.inputs}, 0
        for stage in self.route.stages[self._passed : target + 1]:
            self._values = stage.course.run(self._values | self.route.constants)
        self._passed = target + 1
        return self._values | self.route.constants


@torch.no_grad()
def bytes_per_sample(route: Route, inputs: Tensor) -> int:
    """The most that a walk holds between two layers, besides the inputs, for each sample.

    Measured by walking with a few inputs (N, ...).
    """
    walk = Walk(route, inputs)
    most = 0
    for stage in route.stages:
        walk.to(stage.layer)
        tensors = [t for t in tree_leaves(list(walk.held.values())) if isinstance(t, Tensor)]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}
        own = storages.keys() - {inputs.untyped_storage().data_ptr()}
        most = max(most, sum(storages[place].nbytes() for place in own))
    return -(-most // len(inputs))


@torch.no_grad()
def value_bytes(program: Program, inputs: Tensor) -> dict[str, int]:
    """The size of each value, for each sample; 0 for what depends on no input.

    Measured by running a few inputs (N, ...).
    """
    sizes = {INPUT: inputs.nbytes // len(inputs)}
    for step, value in program.each(inputs):
        tensors = [t for t in tree_leaves(value) if isinstance(t, Tensor)]
        varies = any(sizes[name] for name in step.reads)
        sizes[step.name] = varies * sum(t.nbytes for t in tensors) // len(inputs)
    return sizes


@torch.no_grad()
def sample_axes(program: Program, inputs: Tensor) -> dict[str, int]:
    """Along which axis the samples lie, of each value that is a tensor with more for more samples.

    Found by running a few inputs (N, ...), and fewer.
    """
    fewer = inputs[: -(-len(inputs) // 2)]
    axes = {INPUT: 0}
    for (step, many), (_, few) in zip(program.each(inputs), program.each(fewer), strict=True):
        shapes = [value.shape for value in (many, few) if isinstance(value, Tensor)]
        if len(shapes) == 2 and len(fewer) < len(inputs):
            differs = [a != b for a, b in zip(*shapes, strict=True)]
            if True in differs:
                axes[step.name] = differs.index(True)
    return axes


def _ancestors(program: Program, wanted: Iterable[str], have: set[str]) -> tuple[Step, ...]:
    """The steps that make the wanted values out of those there are."""
    missing = set(wanted) - have
    steps = []
    for step in reversed(program.steps):
        if step.name in missing:
            steps.append(step)
            missing |= set(step.reads) - have
    return tuple(reversed(steps))


def _sources(program: Program, wanted: Iterable[str], have: set[str]) -> set[str]:
    """Those of the values there are out of which the wanted ones can be made."""
    reads = {name for step in _ancestors(program, wanted, have) for name in step.reads}
    return have & ({*wanted} | reads)
