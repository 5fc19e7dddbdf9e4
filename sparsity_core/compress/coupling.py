"""Channels followed through a whole model: who makes them, who changes them, who reads them.

An abstract run beside a real one: each step of the captured program says what becomes of the
channels that go in. A step that is not known here freezes them, with its name as the reason.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sparsity_core.compress.channels import Classes, Flow, varying
from sparsity_core.compress.constants import made, uniform
from sparsity_core.compress.passing import ELEMENTWISE, PER_CHANNEL, merged, moved_axis, name_of
from sparsity_core.sweep.capture import capture
from sparsity_core.sweep.program import INPUT, Program, Read, Step

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, eq=False)
class Mix:
    """A layer that makes each of its outputs out of many inputs."""

    path: str
    module: nn.Module
    inputs: Flow
    outputs: tuple[int, ...]
    groups: int = 1
    padded: bool = False  # zeros at the borders, where a constant input is none

    def columns(self, column: int) -> tuple[slice, int]:
        """The rows that read an input, and its place in them."""
        size = len(self.inputs.ids) // self.groups
        rows = len(self.outputs) // self.groups
        group = column // size
        return slice(group * rows, (group + 1) * rows), column % size


@dataclass(eq=False)
class Coupling:
    """What following a model found."""

    classes: Classes = field(default_factory=Classes)
    mixes: list[Mix] = field(default_factory=list)
    bound: dict[str, tuple[int, ...]] = field(default_factory=dict)  # per-channel modules by path
    output: Flow | None = None
    resists: str = ""

    def producers(self) -> dict[str, tuple[int, ...]]:
        """The outputs of every layer with a weight that was followed, by path."""
        return {mix.path: mix.outputs for mix in self.mixes} | self.bound


@torch.no_grad()
def couple(model: nn.Module, sample: Tensor) -> Coupling:
    """Follow the channels of a model in eval mode; `sample` is a few of its inputs (N, C, ...)."""
    return _Follow(model, capture(model, sample)).run(sample)


class _Follow:
    def __init__(self, model: nn.Module, program: Program) -> None:
        self.program = program
        self.found = Coupling(resists=program.resists)
        self.classes = self.found.classes
        self.paths = {id(module): path for path, module in model.named_modules()}
        tensors = [p for _, p in model.named_parameters(remove_duplicate=False)]
        owners = Counter(t.data_ptr() for t in tensors if t.numel())
        uses = Counter(name for step in program.steps for name in step.weights)
        self.tied = {
            name: "is used more than once in the forward pass, or shared with another layer"
            for name, p in model.named_parameters(remove_duplicate=False)
            if uses[name] > 1 or owners[p.data_ptr()] > 1
        }
        self.values: dict[str, Any] = {}
        self.flows: dict[str, Flow] = {}

    def run(self, sample: Tensor) -> Coupling:
        ids = self.classes.new(sample.shape[1])
        self.classes.freeze(ids, "is an input of the model")
        self.values[INPUT], self.flows[INPUT] = sample, varying(1, ids)
        for step in self.program.steps:
            self.values[step.name] = step.run(self.values)
            flow = self._flow(step)
            if flow is not None:
                self.flows[step.name] = flow
        if (output := self.flows.get(self.program.output)) is not None:
            self.classes.freeze(output.ids, "is an output of the model")
            self.found.output = output
        return self.found

    def _flow(self, step: Step) -> Flow | None:
        """What becomes of the channels in a step; None where the value has none that is known."""
        result = self.values[step.name]
        given = [self.flows[name] for name in step.reads if name in self.flows]
        if not isinstance(result, Tensor):
            if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
                self._freeze(given, step)
            return None
        if isinstance(step.call, nn.Module):
            return self._module(step, step.call, result)
        name = name_of(step)
        if name in ("cat", "concat", "concatenate"):
            return self._cat(step, result, given)
        if not given:
            return None
        if name in ELEMENTWISE and len(given) == len(step.reads) and len(given) > 1:
            return self._joined(step, result, given)
        if len(given) == 1 and self._only_plain_others(step):
            flow = given[0]
            if name in PER_CHANNEL or name in ELEMENTWISE:
                return self._passed(step, flow)
            axis = moved_axis(name, step, flow, self._input(step), result)
            if axis is not None:
                return self._passed(step, flow, axis)
            if name in ("flatten", "view", "reshape"):
                return self._reshaped(step, name, result, flow)
        self._freeze(given, step)
        return None

    def _module(self, step: Step, module: nn.Module, result: Tensor) -> Flow | None:
        path = self.paths[id(module)]
        flow = self.flows.get(step.reads[0]) if step.reads else None
        if isinstance(module, (nn.Linear, *CONVOLUTIONS)) and type(module).__module__.startswith(
            "torch.nn"
        ):
            return self._layer(path, module, step, result, flow)
        if flow is None:
            return None
        kind = type(module).__name__
        if isinstance(module, BATCH_NORMS) and flow.axis == 1:
            if not module.track_running_stats:
                self._freeze([flow], step)
                return None
            self._bind(path, flow.ids)
            return self._passed(step, flow)
        if isinstance(module, nn.PReLU) and module.num_parameters > 1:
            self._freeze([flow], step)
            return None
        if kind == "Flatten":
            return self._reshaped(step, "flatten", result, flow)
        if kind in PER_CHANNEL:
            return self._passed(step, flow)
        self._freeze([flow], step)
        return None

    def _layer(
        self, path: str, module: Any, step: Step, result: Tensor, flow: Flow | None
    ) -> Flow | None:
        linear = isinstance(module, nn.Linear)
        axis = result.dim() - 1 if linear else 1
        groups = 1 if linear else module.groups
        count = module.weight.shape[1] * groups
        if flow is None or flow.axis != axis or len(flow.ids) != count:
            if flow is not None:
                self._freeze([flow], step)
            flow = varying(axis, self.classes.new(count))
            self.classes.freeze(flow.ids, f"is made where channels cannot be followed, for {path}")
        padded = not linear and not (
            module.padding == "valid"
            or (not isinstance(module.padding, str) and not any(module.padding))
        )
        out = len(module.weight)
        depthwise = groups > 1 and groups == count
        if depthwise:  # each input with its own filters: they go together
            ids = tuple(i for i in flow.ids for _ in range(out // groups))
            self._bind(path, ids)
        else:
            ids = self.classes.new(out)
            if reason := self.tied.get(f"{path}.weight".lstrip(".")):
                self.classes.freeze((*ids, *flow.ids), f"{path} {reason}")
            self.found.mixes.append(Mix(path, module, flow, ids, groups, padded))
        return Flow(axis, ids, made(module, flow, padded, groups))

    def _bind(self, path: str, ids: tuple[int, ...]) -> None:
        """A module with a parameter a channel."""
        if path in self.found.bound:
            self.classes.freeze((*ids, *self.found.bound[path]), f"{path} is used more than once")
        else:
            self.found.bound[path] = ids

    def _passed(self, step: Step, flow: Flow, axis: int | None = None) -> Flow:
        """Each channel becomes something of its own."""
        axis = flow.axis if axis is None else axis
        given = {name: self._filled(name) for name in step.reads if name in self.flows}
        return Flow(axis, flow.ids, uniform(step.run(self.values | given), axis, flow.fixed))

    def _joined(self, step: Step, result: Tensor, given: list[Flow]) -> Flow | None:
        """Sums and products of values with the same channels."""
        from_right = {flow.axis - self.values[name].dim() for name, flow in self._given(step)}
        if len(from_right) > 1 or len({len(flow.ids) for flow in given}) > 1:
            self._freeze(given, step)
            return None
        for other in given[1:]:
            self.classes.join(given[0].ids, other.ids)
        fixed = torch.stack([flow.fixed for flow in given]).all(0)
        if name_of(step) in ("mul", "imul"):  # nothing times anything is nothing
            fixed |= torch.stack([flow.constants == 0 for flow in given]).any(0)
        axis = from_right.pop() + result.dim()
        filled = {name: self._filled(name) for name, _ in self._given(step)}
        return Flow(axis, given[0].ids, uniform(step.run(self.values | filled), axis, fixed))

    def _cat(self, step: Step, result: Tensor, given: list[Flow]) -> Flow | None:
        parts = [read.name for read in tree_leaves(step.args[0]) if isinstance(read, Read)]
        dim = step.kwargs.get("dim", step.args[1] if len(step.args) > 1 else 0)
        flows = [self.flows[name] for name in parts if name in self.flows]
        known = len(flows) == len(parts) and isinstance(dim, int)
        if not known or {flow.axis for flow in flows} != {dim % result.dim()}:
            self._freeze(given, step)
            return None
        ids = tuple(i for flow in flows for i in flow.ids)
        return Flow(flows[0].axis, ids, torch.cat([flow.constants for flow in flows]))

    def _reshaped(self, step: Step, name: str, result: Tensor, flow: Flow) -> Flow | None:
        found = merged(self._input(step).shape, flow.axis, result.shape)
        wanted = step.args[1:]
        if len(wanted) == 1 and isinstance(wanted[0], (tuple, list)):
            wanted = tuple(wanted[0])
        if found is None:
            self._freeze([flow], step)
            return None
        axis, times = found
        if name != "flatten" and len(wanted) > axis and wanted[axis] not in (-1, None):
            size = wanted[axis]
            if isinstance(size, int):
                why = f"meets {step.name}, whose code says {size} where channels lie; write -1"
                self.classes.freeze(flow.ids, why)
                return None
        ids = tuple(i for i in flow.ids for _ in range(times))
        return Flow(axis, ids, flow.constants.repeat_interleave(times))

    def _freeze(self, given: list[Flow], step: Step) -> None:
        for flow in given:
            what = self.paths.get(id(step.call)) if isinstance(step.call, nn.Module) else ""
            kind = type(step.call).__name__ if isinstance(step.call, nn.Module) else name_of(step)
            named = f"{what} ({kind})" if what else kind
            why = f"meets {named}, which does not treat channels singly"
            if kind in ELEMENTWISE:
                why = f"meets {kind} with a tensor whose channels cannot be followed"
            self.classes.freeze(flow.ids, why)

    def _given(self, step: Step) -> list[tuple[str, Flow]]:
        return [(name, self.flows[name]) for name in step.reads if name in self.flows]

    def _input(self, step: Step) -> Tensor:
        value: Tensor = next(self.values[n] for n in step.reads if n in self.flows)
        return value

    def _only_plain_others(self, step: Step) -> bool:
        """Is the value with channels the only tensor that the step reads?"""
        others = [self.values[name] for name in step.reads if name not in self.flows]
        return not any(isinstance(leaf, Tensor) for leaf in tree_leaves(others))

    def _filled(self, name: str) -> Tensor:
        """A value whose constant channels hold their constants, and others nothing."""
        flow, value = self.flows[name], self.values[name]
        shape = [1] * value.dim()
        shape[flow.axis] = -1
        return flow.constants.nan_to_num(0).to(value).reshape(shape).expand_as(value).clone()
