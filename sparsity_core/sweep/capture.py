"""A model taken apart into steps by following its forward pass (torch.fx).

A module that resists, by branching on its data for instance, becomes one step. When the model
itself does, the whole model is one step, and the program says why.
"""

import copy
import operator
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from sparsity_core.copied import copied
from sparsity_core.sweep.program import INPUT, Program, Read, Step, Values, whole


def capture(model: nn.Module, sample: Tensor) -> Program:
    """The model's own operations on its own weights: the same bits as the model.

    `model` is in eval mode, `sample` a few of its inputs (N, ...). Steps read the weights when they
    run, so a model that is masked meanwhile is masked in the program.
    """
    tracer = _Tracer()
    # A copy: a forward pass that stores what it computes would store stand-ins of torch.fx. Of the
    # weights there is no second one, since a forward pass leaves them alone.
    root = _Root(copied(model, {id(weight): weight for weight in model.parameters()}))
    try:
        graph = tracer.trace(root)
        if why := tracer.opaque.get("model"):
            return whole(model, why)
        output = graph.output_node().args[0]
        if not isinstance(output, fx.Node):
            return whole(model, f"returns a {type(output).__name__}")
        opaque = {path.removeprefix("model."): why for path, why in tracer.opaque.items()}
        program = Program(tuple(_steps_of(graph, root, model)), output.name, opaque)
        return _living(_functional(program, model, sample))
    except Exception as error:  # noqa: BLE001 - a model is anybody's code
        return whole(model, _said(error))


class _Root(nn.Module):
    """Calls the model with its inputs alone, so that every further argument has its default."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Any:
        return self.model(inputs)


class _Tracer(fx.Tracer):
    """Takes modules apart, down to those of torch.nn and to those that resist."""

    def __init__(self) -> None:
        super().__init__()
        self.opaque: dict[str, str] = {}

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        known, stack = len(self.graph.nodes), copy.copy(self.module_stack)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # noqa: BLE001 - a module is anybody's code
            for node in reversed(list(self.graph.nodes)[known:]):
                self.graph.erase_node(node)
            self.module_stack = stack
            path = self.path_of_module(m)
            self.opaque[path] = _said(error)
            return self.create_proxy("call_module", path, args, kwargs)


def _steps_of(graph: fx.Graph, root: nn.Module, model: nn.Module) -> list[Step]:
    (given,) = (node for node in graph.nodes if node.op == "placeholder")
    names = _names_by_storage(model)

    def read(node: fx.Node) -> Any:
        return Read(INPUT if node is given else node.name)

    def step(node: fx.Node) -> Step:
        target = str(node.target)
        call: Callable[..., Any]
        weights: list[Tensor] = []
        if node.op == "get_attr":
            path = target.removeprefix("model.")
            # What the forward pass made of plain numbers is held by the traced copy alone.
            tensor = operator.attrgetter(path)(model if path != target else root)
            call, weights = partial(_itself, tensor), [tensor]
        elif node.op == "call_module":
            module = model.get_submodule(target.removeprefix("model."))
            call, weights = module, list(module.parameters())
        elif node.op == "call_method":
            call = partial(_method, target)
        else:
            call = cast(Callable[..., Any], node.target)
        return Step(
            name=node.name,
            call=call,
            args=fx.map_arg(node.args, read),
            kwargs=fx.map_arg(node.kwargs, read),
            weights=frozenset().union(*(names.get(_storage(w), ()) for w in weights)),
        )

    return [step(node) for node in graph.nodes if node.op not in ("placeholder", "output")]


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _method(name: str, this: Any, *args: Any, **kwargs: Any) -> Any:
    return getattr(this, name)(*args, **kwargs)


def _functional(program: Program, model: nn.Module, sample: Tensor) -> Program:
    """The program whose steps change none of their inputs: what they would change, they copy.

    Found by running it once and looking which tensors have changed.
    """
    values: Values = {INPUT: sample.clone()}
    order = {INPUT: -1} | {step.name: i for i, step in enumerate(program.steps)}
    last_read = {name: i for i, step in enumerate(program.steps) for name in step.reads}
    changed: dict[int, str] = {}  # storage -> the step that overwrote it

    def too_late(name: str) -> str:
        """Which step has overwritten a value that is still to be read."""
        found = (changed.get(_storage(tensor), "") for tensor in _tensors(values[name]))
        return next((by for by in found if by and order[name] < order[by]), "")

    steps = []
    for place, step in enumerate(program.steps):
        for name in step.reads:
            if by := too_late(name):
                return whole(model, f"{by} changes {name} in place and {step.name} reads it later")
        read = [(name, tensor) for name in step.reads for tensor in _tensors(values[name])]
        versions = [tensor._version for _, tensor in read]
        values[step.name] = step.run(values)
        overwritten = [
            (name, tensor)
            for (name, tensor), version in zip(read, versions, strict=True)
            if tensor._version != version
        ]
        changed |= {_storage(tensor): step.name for _, tensor in overwritten}
        steps.append(replace(step, overwrites=frozenset(name for name, _ in overwritten)))
        for name in step.reads:
            if last_read[name] == place and name != program.output:
                del values[name]
    if by := too_late(program.output):
        return whole(model, f"{by} changes the output in place")
    return replace(program, steps=tuple(steps))


def _living(program: Program) -> Program:
    """Without the steps that the output does not depend on."""
    wanted = {program.output}
    steps = []
    for step in reversed(program.steps):
        if step.name in wanted:
            wanted.update(step.reads)
            steps.append(step)
    return replace(program, steps=tuple(reversed(steps)))


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _names_by_storage(model: nn.Module) -> dict[int, list[str]]:
    """All names of the parameters in each piece of memory."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(_storage(parameter), []).append(name)
    return names


def _said(error: Exception) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
