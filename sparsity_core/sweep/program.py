"""A model as a list of steps, and those of them that some weights reach."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Values = dict[str, Any]  # what the steps have made so far, by name

INPUT = "input"  # the name of what the model is given


@dataclass(frozen=True, eq=False)
class Step:
    """One operation: values in, one value out, which has the step's name; it changes no value."""

    name: str
    reads: tuple[str, ...]
    weights: frozenset[str]  # the model's parameters that it uses, by all their names
    run: Callable[[Values], Any]


@dataclass(frozen=True, eq=False)
class Program:
    """Steps in an order in which they can run."""

    steps: tuple[Step, ...]
    output: str
    opaque: dict[str, str] = field(default_factory=dict)  # modules that are one step -> why
    resists: str = ""  # why the whole model is one step; empty when it is not

    def __call__(self, inputs: Tensor) -> Any:
        """What the model makes of the inputs."""
        return run(self.steps, {INPUT: inputs}, {self.output})[self.output]


@dataclass(frozen=True, eq=False)
class Suffix:
    """What runs again when some weights change, and the dense values that it starts from."""

    steps: tuple[Step, ...]
    needs: frozenset[str]
    output: str

    def __call__(self, dense: Values) -> Any:
        """The model's output with the weights as they are now."""
        return run(self.steps, dense, {self.output})[self.output]


def whole(model: nn.Module, why: str) -> Program:
    """The program of one step, for a model that resists being taken apart."""
    weights = frozenset(name for name, _ in model.named_parameters(remove_duplicate=False))
    step = Step("model", (INPUT,), weights, lambda values: model(values[INPUT]))
    return Program((step,), step.name, resists=why)


def suffix_of(program: Program, weights: Iterable[str]) -> Suffix:
    """Every use of these parameters and all that depends on one, in whatever branch."""
    changed = frozenset(weights)
    reached: set[str] = set()
    steps = []
    for step in program.steps:
        if step.weights & changed or reached.intersection(step.reads):
            steps.append(step)
            reached.add(step.name)
    needs = {name for step in steps for name in step.reads} | {program.output}
    return Suffix(tuple(steps), frozenset(needs - reached), program.output)


def run(steps: Sequence[Step], given: Values, keep: Iterable[str]) -> Values:
    """The values named in `keep`, as given or as the steps make them.

    Every other value that a step makes is let go as soon as no later step reads it.
    """
    kept = set(keep)
    last_read = {name: i for i, step in enumerate(steps) for name in step.reads}
    values = dict(given)
    for i, step in enumerate(steps):
        values[step.name] = step.run(values)
        for name in (*step.reads, step.name):
            if name not in kept and last_read.get(name, i) == i:
                values.pop(name, None)
    return {name: values[name] for name in kept}
