"""A model as a list of steps, and those of them that some weights reach."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

Values = dict[str, Any]  # what the steps have made so far, by name

INPUT = "input"  # the name of what the model is given


@dataclass(frozen=True)
class Read:
    """Stands for a value among the arguments of a step."""

    name: str


@dataclass(frozen=True, eq=False)
class Step:
    """One operation: values in, one value out, which has the step's name; it changes no value."""

    name: str
    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    weights: frozenset[str] = frozenset()  # the model's parameters that it uses, by all their names
    overwrites: frozenset[str] = frozenset()  # values that `call` would change: it gets copies
    # Opened after its weights were changed, for as long as they are: for calls that pack them.
    adapted: Callable[[], AbstractContextManager[None]] = nullcontext
    # Makes its value out of the dense one when whole outputs of its weight are zero.
    blanked: Callable[[Any], Any] | None = None

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The names of the values among its arguments."""
        found: list[str] = []
        map_reads((self.args, self.kwargs), found.append)
        return tuple(dict.fromkeys(found))

    def run(self, values: Values) -> Any:
        """What it makes of the values."""
        if self.overwrites:
            copies = {n: tree_map_only(Tensor, torch.clone, values[n]) for n in self.overwrites}
            values = values | copies
        if self._only_reads:
            return self.call(*[values[read.name] for read in self.args], **self.kwargs)
        args = map_reads(self.args, values.__getitem__)
        return self.call(*args, **map_reads(self.kwargs, values.__getitem__))

    @cached_property
    def _only_reads(self) -> bool:
        """Is there nothing to fill in but whole arguments? Then it is soon done."""
        return len(self.reads) == len(self.args) and all(isinstance(a, Read) for a in self.args)


@dataclass(frozen=True, eq=False)
class Program:
    """Steps in an order in which they can run."""

    steps: tuple[Step, ...]
    output: str
    opaque: dict[str, str] = field(default_factory=dict)  # modules that are one step -> why
    resists: str = ""  # why the whole model is one step; empty when it is not

    def __call__(self, inputs: Tensor) -> Any:
        """What the model makes of the inputs."""
        return self._course.run({INPUT: inputs})[self.output]

    def each(self, inputs: Tensor) -> Iterator[tuple[Step, Any]]:
        """The steps and what they make of the inputs; a value is gone after its last reader."""
        return self._course.each({INPUT: inputs})

    @cached_property
    def _course(self) -> "Course":
        return Course(self.steps, {self.output})


@dataclass(frozen=True, eq=False)
class Suffix:
    """What runs again when some weights change, and the dense values that it starts from."""

    steps: tuple[Step, ...]
    needs: frozenset[str]
    output: str

    def __call__(self, dense: Values) -> Any:
        """The model's output with the weights as they are now."""
        return self._course.run(dense)[self.output]

    @cached_property
    def _course(self) -> "Course":
        return Course(self.steps, {self.output})


def whole(model: nn.Module, why: str) -> Program:
    """The program of one step, for a model that resists being taken apart."""
    weights = frozenset(name for name, _ in model.named_parameters(remove_duplicate=False))
    step = Step("model", model, (Read(INPUT),), weights=weights)
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
    return _suffix(steps, program.output)


def from_own_output(suffix: Suffix, own: Step) -> tuple[Suffix, str]:
    """The suffix with `own` only blanking its dense value; and the name that this needs to have."""
    assert own.blanked
    dense = f"{own.name}, dense"
    blank = replace(own, call=own.blanked, args=(Read(dense),), kwargs={}, overwrites=frozenset())
    return _suffix([blank if s is own else s for s in suffix.steps], suffix.output), dense


def parted(
    suffix: Suffix, weights: Iterable[str], axes: Mapping[str, int]
) -> tuple["Course", Suffix]:
    """The steps up to the last use of the weights, and the rest.

    Only values that have an axis of samples go from one to the other.
    """
    changed, steps = frozenset(weights), suffix.steps
    last = max(i for i, step in enumerate(steps) if step.weights & changed)
    for i in range(last + 1, len(steps) + 1):
        tail = _suffix(steps[i:], suffix.output)
        between = tail.needs.intersection(step.name for step in steps[:i])
        if between <= axes.keys():
            break
    return Course(steps[:i], between), tail


def behind(suffix: Suffix, own: Step) -> Suffix:
    """The suffix without `own`, whose value it needs instead."""
    return _suffix([step for step in suffix.steps if step is not own], suffix.output)


def _suffix(steps: Sequence[Step], output: str) -> Suffix:
    needs = {name for step in steps for name in step.reads} | {output}
    return Suffix(tuple(steps), frozenset(needs - {step.name for step in steps}), output)


class Course:
    """Steps one after another; what to keep of their values, and when the others can go."""

    def __init__(self, steps: Sequence[Step], keep: Iterable[str]) -> None:
        self.keep = frozenset(keep)
        self.needs = frozenset(_suffix(steps, "").needs) - {""}
        last_read = {name: i for i, step in enumerate(steps) for name in step.reads}
        self._plan = [
            (
                step,
                [
                    name
                    for name in (*step.reads, step.name)
                    if name not in self.keep and last_read.get(name, i) == i
                ],
            )
            for i, step in enumerate(steps)
        ]

    def each(self, given: Values) -> Iterator[tuple[Step, Any]]:
        """The steps and what they make, one after another."""
        values = dict(given)
        for step, done in self._plan:
            values[step.name] = step.run(values)
            yield step, values[step.name]
            for name in done:
                values.pop(name, None)

    def run(self, given: Values) -> Values:
        """The values to keep, as given or as the steps make them."""
        values = dict(given)
        for step, done in self._plan:
            values[step.name] = step.run(values)
            for name in done:
                values.pop(name, None)
        return {name: values[name] for name in self.keep}


def map_reads(arguments: Any, found: Callable[[str], Any]) -> Any:
    """The arguments with what `found` says in the place of each value read."""
    if isinstance(arguments, Read):
        return found(arguments.name)
    if isinstance(arguments, (tuple, list)):
        return type(arguments)([map_reads(a, found) for a in arguments])
    if isinstance(arguments, dict):
        return {key: map_reads(a, found) for key, a in arguments.items()}
    if isinstance(arguments, slice):
        ends = (arguments.start, arguments.stop, arguments.step)
        return slice(*[map_reads(a, found) for a in ends])
    return arguments
