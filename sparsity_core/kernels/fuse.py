"""Sparse convolutions of a model one after another: no copies between, sums and ReLUs within.

The graph of the model (torch.fx) shows which additions and ReLUs alone read what a convolution
makes; they become part of it. Outputs stay in the convolution's own memory, where the next one
reads them, and are copied only when they leave the model.
"""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from sparsity_core.kernels.convolution import SparseConvolution
from sparsity_core.kernels.fused import FusedChain, FusedConvolution

_ADD: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
_RELU: tuple[Any, ...] = (F.relu, torch.relu, "relu", "relu_")


def fuse(model: nn.Module, sample: Tensor) -> tuple[nn.Module | None, str]:
    """A model of the same outputs for inputs like `sample`, and none and why where there is none.

    `model` has packed convolutions (`SparseLayer`) and is in eval mode; its modules are shared.
    """
    try:
        graph = _Tracer().trace(model)
        traced = fx.GraphModule(model, graph)
        sizes = _Sizes(traced)
        sizes.run(sample)
    except Exception as error:  # noqa: BLE001 - models do in forward whatever they like
        said = (str(error) or repr(error)).splitlines()[0]
        return None, f"its forward pass cannot be traced ({said})"
    fused = _fused_(traced, sizes.found)
    if not fused:
        return None, ""
    return traced, ""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Packed layers as well as torch's own."""
        return hasattr(m, "packed") or super().is_leaf_module(m, module_qualified_name)


class _Sizes(fx.Interpreter):
    """The shape of every value in a pass."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.found: dict[fx.Node, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.found[n] = value.shape
        return value


def _fused_(traced: fx.GraphModule, sizes: dict[fx.Node, torch.Size]) -> int:
    """Replace convolutions and what belongs to them; how many."""
    graph, claimed, made = traced.graph, set[fx.Node](), list[fx.Node]()
    for node in list(graph.nodes):
        if _is(traced, node, (), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in list(graph.nodes):
        module = traced.get_submodule(node.target) if node.op == "call_module" else None
        packed = getattr(module, "packed", None)
        if packed is None or not isinstance(packed.kernel, SparseConvolution):
            continue
        last, residual, relu = _what_follows(traced, node, claimed, sizes)
        name = f"fused_{len(made)}"
        traced.add_module(name, FusedConvolution(packed, relu))
        with graph.inserting_after(last):
            args = (node.args[0], *([] if residual is None else [residual]))
            new = graph.call_module(name, args)
        last.replace_all_uses_with(new)
        sizes[new] = sizes[last]
        made.append(new)
    if not made:
        return 0
    for node in reversed(list(graph.nodes)):
        if node in claimed or (node.op == "call_module" and not node.users):
            graph.erase_node(node)
    made = [node for node in graph.nodes if node in made]  # in the order in which they run
    _assign_slots(traced, made)
    _chain_(traced, made)
    _outputs_of_their_own_(graph)
    graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return len(made)


def _what_follows(
    traced: fx.GraphModule,
    node: fx.Node,
    claimed: set[fx.Node],
    sizes: dict[fx.Node, torch.Size],
) -> tuple[fx.Node, fx.Node | None, bool]:
    """The last node that becomes part of a convolution, what it adds, and whether it ends in ReLU.

    Adds them to `claimed`.
    """
    last, residual = node, None
    claimed.add(node)
    while len(last.users) == 1:
        (user,) = last.users
        if user in claimed:
            break
        if _is(traced, user, _RELU, nn.ReLU):
            claimed.add(user)
            return user, residual, True
        if residual is None and _is(traced, user, _ADD) and not user.kwargs:
            others = [arg for arg in user.args if arg is not last]
            (other,) = others if len(others) == 1 else (None,)
            # A sum that stretches one of the two is left alone.
            if not isinstance(other, fx.Node) or sizes.get(other) != sizes[node]:
                break
            last, residual = user, other
        else:
            break
        claimed.add(last)
    return last, residual, False


def _is(
    traced: fx.GraphModule, node: fx.Node, functions: tuple[Any, ...], *modules: type[nn.Module]
) -> bool:
    if node.op == "call_module":
        return type(traced.get_submodule(str(node.target))) in modules
    return node.op in ("call_function", "call_method") and node.target in functions


def _assign_slots(traced: fx.GraphModule, made: list[fx.Node]) -> None:
    """Memory for outputs: taken again once all that read it have run, or never where a view of it
    may live on."""
    order = {node: i for i, node in enumerate(traced.graph.nodes)}
    owner, free, busy, count = object(), list[int](), dict[fx.Node, int](), 0
    for node in made:
        for earlier in list(busy):
            users = list(earlier.users)
            read = all(user in made and order[user] < order[node] for user in users)
            if read and users:
                free.append(busy.pop(earlier))
        slot = free.pop() if free else count
        count += slot == count
        busy[node] = slot
        module = traced.get_submodule(str(node.target))
        assert isinstance(module, FusedConvolution)
        module.slot = (id(owner), owner, slot)


def _chain_(traced: fx.GraphModule, made: list[fx.Node]) -> None:
    """All of them become one call where the first alone reads what others made, and the last alone
    is read by others."""
    every = list(traced.graph.nodes)
    first = every.index(made[0])
    inside = all(user in made for node in made[:-1] for user in node.users)
    outside = {arg for node in made for arg in node.args} - set(made)
    together = every[first : first + len(made)] == made
    if len(made) < 2 or not (inside and together) or outside != {made[0].args[0]}:
        return
    (given,) = outside
    if len(made[0].args) > 1 or any(given in node.args for node in made[1:]):
        return  # where the inputs lie changes from call to call, and the first alone is told
    value = {made[0].args[0]: 0} | {node: i + 1 for i, node in enumerate(made)}
    steps = [traced.get_submodule(str(node.target)) for node in made]
    reads = [(value[node.args[0]], *[value[a] for a in node.args[1:]], None)[:2] for node in made]
    traced.add_module("chain", FusedChain(steps, reads))  # type: ignore[arg-type]
    with traced.graph.inserting_after(made[-1]):
        new = traced.graph.call_module("chain", (made[0].args[0],))
    made[-1].replace_all_uses_with(new)
    for node in reversed(made):
        traced.graph.erase_node(node)


def _outputs_of_their_own_(graph: fx.Graph) -> None:
    """A copy of what leaves the model, which otherwise the next call would change."""
    (output,) = (node for node in graph.nodes if node.op == "output")

    def copied(value: fx.Node) -> fx.Node:
        with graph.inserting_before(output):
            return graph.call_function(_copy, (value,))

    output.args = fx.node.map_arg(output.args, copied)


def _copy(value: Any) -> Any:
    return value.clone(memory_format=torch.contiguous_format) if torch.is_tensor(value) else value
