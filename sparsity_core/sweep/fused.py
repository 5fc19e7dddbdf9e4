"""A captured program with fewer, faster steps: norms folded, activations and sums fused.

The outputs differ from the model's by rounding only.
"""

import operator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_core.sweep import folded, onednn
from sparsity_core.sweep.attention import with_attention
from sparsity_core.sweep.folded import Activation, Convolution, Linear
from sparsity_core.sweep.program import INPUT, Program, Read, Step, map_reads

_PASS_ON = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_RELUS = (torch.relu, torch.relu_, F.relu, F.relu_)
_TWO = (2, (2, 2))
_SUMS = (operator.add, operator.iadd, torch.add)


@torch.no_grad()
def fuse(program: Program, sample: Tensor) -> Program:
    """The same program with a convolution or linear layer and what follows as one step.

    By oneDNN on the CPU where torch has it. `sample`: a few inputs (N, ...), which tell the shapes
    and the device.
    """
    program = _without_idle_steps(program)
    program = with_attention(program, _shapes(program, sample))
    fusing = _Fusing(program, sample)
    return replace(program, steps=tuple(fusing.steps()), output=fusing.program.output)


class _Fusing:
    def __init__(self, program: Program, sample: Tensor) -> None:
        self.program = program
        near = sample.device.type == "cpu" and torch.backends.mkldnn.is_available()
        self.calls = onednn if near else folded
        self.shapes = _shapes(program, sample)
        self.readers: dict[str, list[Step]] = {}
        for step in program.steps:
            for name in step.reads:
                self.readers.setdefault(name, []).append(step)
        self.made: dict[str, Step | None] = {}  # None = part of a chain that ends elsewhere

    def steps(self) -> list[Step]:
        """The steps, each chain in the place of its last member."""
        for step in self.program.steps:
            if step.name in self.made:
                continue
            if type(step.call) is nn.Conv2d and self._fits(step, step.call):
                self._convolution(step, step.call)
            elif type(step.call) is nn.Linear and self._fits(step, step.call):
                self._linear(step, step.call)
            else:
                self.made[step.name] = _halving(step) if _halves(step) else step
        made = (self.made[step.name] for step in self.program.steps)
        return [step for step in made if step is not None]

    def _convolution(self, step: Step, conv: nn.Conv2d) -> None:
        chain, norm, act = [step], None, Activation()
        args = step.args
        then = self._next(step)
        if then and type(then.call) is nn.BatchNorm2d and then.call.running_mean is not None:
            norm = then.call
            chain.append(then)
            then = self._next(then)
        if then and (other := self._added(chain[-1], then)):
            args = (*args, Read(other))
            chain.append(then)
            then = self._next(then)
        if then and (found := _activation(then)) and (args == step.args or found.name == "relu"):
            act = found
            chain.append(then)
        self._make(chain, args, self.calls.Convolution(conv, norm, act))

    def _linear(self, step: Step, linear: nn.Linear) -> None:
        make = self.calls.Linear
        then = self._next(step)
        if then and (other := self._added(step, then)):
            self._make([step, then], (*step.args, Read(other)), make(linear, Activation()))
        elif then and (found := _activation(then)):
            self._make([step, then], step.args, make(linear, found))
        else:
            self._make([step], step.args, make(linear, Activation()))

    def _make(self, chain: list[Step], args: tuple[Any, ...], call: Convolution | Linear) -> None:
        weights: frozenset[str] = frozenset().union(*(step.weights for step in chain))
        self.made |= dict.fromkeys(step.name for step in chain)
        last = chain[-1].name
        fused = Step(last, call, args, weights=weights, adapted=call.adapted)
        self.made[last] = replace(fused, blanked=call.blanked) if len(args) == 1 else fused

    def _next(self, step: Step) -> Step | None:
        """The only step that reads another's value, if it is still to be had."""
        readers = self.readers.get(step.name, [])
        alone = len(readers) == 1 and step.name != self.program.output
        return readers[0] if alone and readers[0].name not in self.made else None

    def _added(self, step: Step, then: Step) -> str:
        """The name of what a sum adds to the step's value, in the same shape; "" if it is none."""
        if then.call not in _SUMS or then.kwargs or len(then.reads) != 2 or len(then.args) != 2:
            return ""
        (other,) = set(then.reads) - {step.name}
        return other if self.shapes.get(other) == self.shapes[step.name] else ""

    def _fits(self, step: Step, module: nn.Conv2d | nn.Linear) -> bool:
        """Is it a module without hooks, on one float32 tensor, that oneDNN has a call for?"""
        if len(step.args) != 1 or not isinstance(step.args[0], Read) or step.kwargs:
            return False
        if _hooked(module) or module.weight.dtype != torch.float32:
            return False
        if isinstance(module, nn.Conv2d):
            plain = module.padding_mode == "zeros" and not isinstance(module.padding, str)
            return plain and len(self.shapes.get(step.args[0].name, ())) == 4
        return True


def _activation(step: Step) -> Activation | None:
    call, module = step.call, isinstance(step.call, nn.Module)
    if type(call) is nn.ReLU or (call in _RELUS and len(step.args) == 1):
        return Activation("relu")
    if type(call) is nn.GELU:
        return Activation("gelu", algorithm=call.approximate)
    if type(call) is nn.ReLU6:
        return Activation("hardtanh", (0.0, 6.0))
    if type(call) is nn.SiLU:
        return Activation("swish")
    if not module and call is F.gelu and len(step.args) == 1:
        return Activation("gelu", algorithm=step.kwargs.get("approximate", "none"))
    return None


def _halves(step: Step) -> bool:
    """Is it the usual maximum over windows of 2 x 2?"""
    if type(step.call) is nn.MaxPool2d:
        pool = step.call
        odd = pool.return_indices or pool.ceil_mode or _hooked(pool)
        windows = pool.kernel_size in _TWO and pool.stride in _TWO
        return windows and not odd and pool.padding in (0, (0, 0)) and pool.dilation in (1, (1, 1))
    return step.call is F.max_pool2d and step.args[1:] in ((2,), (2, 2)) and not step.kwargs


def _halving(step: Step) -> Step:
    return replace(step, call=_halve, args=step.args[:1], kwargs={})


def _halve(x: Tensor) -> Tensor:
    """The maximum over windows of 2 x 2, channels last: a tenth of the time for few channels."""
    x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
    rows = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def _without_idle_steps(program: Program) -> Program:
    """Without the modules that only pass on what they are given, as dropout does in eval mode."""
    same: dict[str, str] = {}
    steps = []
    for step in program.steps:
        step = _renamed(step, same)
        if isinstance(step.call, _PASS_ON) and not _hooked(step.call):
            same[step.name] = step.reads[0]
        else:
            steps.append(step)
    return replace(program, steps=tuple(steps), output=same.get(program.output, program.output))


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _renamed(step: Step, names: dict[str, str]) -> Step:
    if not names.keys() & set(step.reads):
        return step
    return replace(
        step,
        args=map_reads(step.args, lambda name: Read(names.get(name, name))),
        kwargs=map_reads(step.kwargs, lambda name: Read(names.get(name, name))),
        overwrites=frozenset(names.get(name, name) for name in step.overwrites),
    )


def _shapes(program: Program, sample: Tensor) -> dict[str, tuple[int, ...]]:
    """The shape of each value that is a tensor."""
    made = ((step.name, value) for step, value in program.each(sample))
    found = {name: tuple(value.shape) for name, value in made if isinstance(value, Tensor)}
    return {INPUT: tuple(sample.shape)} | found
