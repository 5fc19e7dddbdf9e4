"""Which layers of a model can be attributed to, and whether DeepLift has a rule for all of it."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.copied import copied, tied_parameters
from sparsity_core.probe import Probe
from sparsity_core.weights import Prunable

# Modules whose rule in captum 0.9 adds up; the one of nn.Softmax does not.
_ACTIVATIONS = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)

# Autograd's names for operations that are linear in all their inputs ...
_LINEAR = set(
    """
    AccumulateGrad AdaptiveAvgPool2D AdaptiveAvgPool3D Add Alias AsStrided AvgPool2D AvgPool3D Cat
    Clone ConstantPadNd Expand Gather Im2Col Index IndexSelect Mean Neg Permute PixelShuffle
    ReflectionPad1D ReflectionPad2D Repeat ReplicationPad2D ReshapeAlias Roll Select Slice Split
    SplitWithSizes Squeeze Stack Sub Sum T ToCopy Transpose Unbind Unfold UnsafeView Unsqueeze
    UpsampleBilinear2D UpsampleNearest2D View
    """.split()
)
# ... and for those that are so as long as only one factor depends on the model's input.
_PRODUCTS = set(
    """
    Addmm Baddbmm Bmm Convolution CudnnBatchNorm Div MiopenBatchNorm Mm Mul Mv NativeBatchNorm
    """.split()
)


_Calls = dict[nn.Module, list[tuple[Any, int]]]  # outputs, and how often they were changed


def view_of(model: nn.Module) -> nn.Module:
    """The same tensors in modules of its own, to hang hooks on; none changes its input in place."""
    lent = tied_parameters(model, lambda weight: weight.detach(), alone=True)
    view = copied(model, {id(b): b for b in model.buffers()} | lent).requires_grad_(False)
    for module in view.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
        if type(module) in (*_ACTIVATIONS, *_POOLS):
            # Where two such modules follow each other, captum hooks one tensor twice and gives
            # the first the gradient from before the second's rule.
            module.register_forward_pre_hook(lambda _, args: tuple(arg.clone() for arg in args))
    return view


def layer_refusals(probe: Probe) -> dict[str, str]:
    """The layers whose outputs cannot be attributed to -> why."""
    probe.require_samples()
    inputs = probe.batches[0][0][:2]
    targets = torch.cat([targets for _, targets in probe.batches])
    model = view_of(probe.model)
    calls: _Calls = {owner(model, name): [] for name in probe.layers}
    for module in calls:
        module.register_forward_hook(
            lambda module, _, output: calls[module].append((output, getattr(output, "_version", 0)))
        )
    with torch.no_grad():
        outputs = model(inputs)
    if reason := _why_no_classes(inputs, outputs, targets):
        return dict.fromkeys(probe.layers, f"cannot be attributed to: {reason}")
    found = {}
    for name, layer in probe.layers.items():
        if reason := _why_no_output(probe.uses[name], model, layer, calls, len(inputs)):
            found[name] = f"{reason}; skip this layer or choose another scorer"
    return found


def owner(model: nn.Module, name: str) -> nn.Module:
    """The module that a parameter belongs to."""
    return model.get_submodule(name.rpartition(".")[0])


def why_no_rule(model: nn.Module, inputs: Tensor) -> str | None:
    """The first operation of a model for which DeepLift has no rule that adds up, or None."""
    model = view_of(model)
    ruled: set[Any] = set()
    calls: Counter[nn.Module] = Counter()

    def note(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        calls[module] += 1
        ruled.update(_nodes(output.grad_fn, until=args[0].grad_fn))

    with_rules = {n: m for n, m in model.named_modules() if type(m) in (*_ACTIVATIONS, *_POOLS)}
    for module in with_rules.values():
        module.register_forward_hook(note)
    outputs = model(inputs.detach().clone().requires_grad_())
    for name, module in with_rules.items():
        if calls[module] > 1:
            return f"{name} ({type(module).__name__}) is called {calls[module]} times"
        if calls[module] and type(module) in _POOLS and _overlaps(module):
            return f"{name} ({type(module).__name__}) pools overlapping windows"
    for node in _nodes(outputs.grad_fn):
        operation = re.sub(r"Backward\d*$", "", type(node).__name__)
        if node not in ruled and not _is_linear(node, operation):
            return f"{operation.lower()} is not linear and has no rule here"
    return None


def _why_no_classes(inputs: Tensor, outputs: Any, targets: Tensor) -> str | None:
    if not inputs.is_floating_point():
        return f"the model's inputs are {inputs.dtype}, and zero would be no neutral baseline"
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(inputs):
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        return f"outputs must be (samples, classes), this model gives {shape}"
    if targets.dim() != 1 or targets.is_floating_point() or targets.is_complex():
        shape = tuple(targets.shape)
        return f"targets must be one class number a sample, these are {targets.dtype} {shape}"
    if int(targets.min()) < 0 or int(targets.max()) >= outputs.shape[1]:
        highest = outputs.shape[1] - 1
        return f"targets go from {targets.min()} to {targets.max()}, classes from 0 to {highest}"
    return None


def _why_no_output(
    uses: int, model: nn.Module, layer: Prunable, calls: _Calls, samples: int
) -> str | None:
    module = owner(model, layer.name)
    if any(owner(model, alias) is not module for alias in layer.aliases):
        return f"is {layer.note}, so no module's output is its own"
    if layer.kind == "attention":
        return "is a projection inside nn.MultiheadAttention, which does not show its output"
    if len(calls[module]) != 1 or uses != 1:
        return (
            f"is used {uses} times in a forward pass, {len(calls[module])} of them by a call of "
            "its module; attribution needs one call and no other use"
        )
    ((output, version),) = calls[module]
    axis = 1 if layer.kind == "conv" else -1
    if len(output) != samples or output.shape[axis] != layer.shape[0]:
        return f"gives {tuple(output.shape)}, where samples or outputs have no axis of their own"
    if output._version != version:
        return "has outputs that a later operation changes in place"
    return None


def _overlaps(pool: Any) -> bool:
    """Do two windows share an input? Then captum's rule counts one of them."""
    kernel, stride, dilation = (
        torch.as_tensor(size) for size in (pool.kernel_size, pool.stride, pool.dilation)
    )
    return bool((kernel > stride).any() or (dilation > 1).any())


def _nodes(last: Any, until: Any = None) -> Iterator[Any]:
    """The nodes of autograd's graph behind `last` and itself, up to but not with `until`."""
    seen, open_ = {until, None}, [last]
    while open_:
        node = open_.pop()
        if node not in seen:
            seen.add(node)
            open_ += [previous for previous, _ in node.next_functions]
            yield node


def _is_linear(node: Any, operation: str) -> bool:
    depends = [previous is not None for previous, _ in node.next_functions]
    if operation == "Div" and depends[-1]:
        return False  # by what depends on the input
    return operation in _LINEAR or (operation in _PRODUCTS and sum(depends) == 1)
