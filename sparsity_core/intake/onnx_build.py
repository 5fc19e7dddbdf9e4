"""From an ONNX graph to the submodules and steps of a module."""

import re
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.intake import onnx_shapes  # noqa: F401 - lists its operators
from sparsity_core.intake.onnx_file import Graph, Node
from sparsity_core.intake.onnx_layers import Padded, batch_norm, convolution, linear
from sparsity_core.intake.onnx_ops import OPERATORS

_SEVERAL = ("MaxPool", "AveragePool")  # one function for several operators
# Operators whose constants are sizes and places, better known as Python's numbers.
_SIZES = (
    *("Reshape", "Squeeze", "Unsqueeze", "Slice", "Expand", "Tile", "Pad", "ConstantOfShape"),
    *("Split", "Range", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "Clip"),
)
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow")  # a single number may be Python's
_FOLDED = 10_000  # numbers that constants may have to be computed beforehand: weights stay weights


class Operation(nn.Module):
    """One operator without weights of its own; inputs that are known are filled in."""

    def __init__(self, node: Node, known: dict[int, Any]) -> None:
        super().__init__()
        self.kind = node.operator
        self.attributes = {k: v for k, v in node.attributes.items() if not _is_array(v)}
        self.attributes |= {k: torch.tensor(v) for k, v in node.attributes.items() if _is_array(v)}
        if node.operator in _SEVERAL or node.operator.startswith("Reduce"):
            self.attributes["kind"] = node.operator
        if node.operator == "Split":
            self.attributes["outputs"] = len(node.outputs)
        self.known = known

    def forward(self, *given: Any) -> Any:
        """What the operator makes of its inputs."""
        inputs = [self.known.get(i, value) for i, value in enumerate(given)]
        return OPERATORS[self.kind](*inputs, **self.attributes)


def build_(model: Any, graph: Graph) -> None:
    """Give an OnnxModel the graph's layers, operations, constants and the order of its steps."""
    builder = _Builder(model, graph)
    for node in graph.nodes:
        builder.add(node)


class _Builder:
    """Adds one operator after another to a module."""

    def __init__(self, model: Any, graph: Graph) -> None:
        self.model = model
        self.arrays = dict(graph.arrays)
        self.uses = Counter(name for node in graph.nodes for name in node.inputs)
        self.layers: dict[tuple[str, ...], str] = {}  # arrays of a layer -> its path
        # What is added to a value: the bias of a MatMul has the better name.
        self.biases = {
            value: other
            for node in graph.nodes
            if node.operator == "Add" and len(node.inputs) == 2
            for value, other in (node.inputs, node.inputs[::-1])
            if other.endswith(".bias") and other in graph.arrays
        }

    def add(self, node: Node) -> None:
        if node.operator == "Constant":
            (value,) = node.attributes.values()
            self.arrays[node.outputs[0]] = np.asarray(value)
            return
        if self._fold(node):
            return
        layer = self._layer(node)
        if layer is not None:
            path, reads = layer
        else:
            path, reads = self._operation(node), node.inputs
        self.model.steps.append((path, reads, tuple(name for name in node.outputs if name)))

    def _fold(self, node: Node) -> bool:
        """Is it a sum of constants? Then its value is one too."""
        known = [name for name in node.inputs if name]
        if node.operator not in OPERATORS or any(name not in self.arrays for name in known):
            return False
        if sum(self.arrays[name].size for name in known) > _FOLDED or not known:
            return False
        given = [torch.tensor(self.arrays[n]) if n else None for n in node.inputs]
        found = Operation(node, {})(*given)
        several = found if isinstance(found, tuple | list) else [found]
        for name, value in zip(node.outputs, several, strict=False):
            self.arrays[name] = value.numpy()
        return True

    def _layer(self, node: Node) -> tuple[str, tuple[str, ...]] | None:
        """The layer that an operator with weights is, and what it reads; None for any other."""
        names = node.inputs[1:]
        if node.operator == "Conv" and self._have(names):
            weight, bias = self._tensors(names)
            made = convolution(weight, bias, node.attributes)
            return self._place(made, names, False), node.inputs[:1]
        if node.operator == "BatchNormalization" and self._have(names):
            tensors = [torch.tensor(self.arrays[name]) for name in names]
            made = batch_norm(tensors, node.attributes)
            return self._place(made, names[:2], False), node.inputs[:1]
        if node.operator in ("Conv", "BatchNormalization"):
            raise SparsityError(f"{node.operator} with weights that are computed is not known here")
        if node.operator == "Gemm" and self._have(names) and self._is_plain(node):
            weight, bias = self._tensors(names)
            outputs_first = bool(node.attributes.get("transB", 0))
            weight = weight if outputs_first else weight.t().contiguous()
            return self._place(linear(weight, bias), names, not outputs_first), node.inputs[:1]
        if node.operator == "Gemm":
            raise SparsityError("Gemm that is no linear layer is not known here")
        matrix = self.arrays.get(names[0]) if node.operator == "MatMul" else None
        if matrix is not None and matrix.ndim == 2 and self.uses[names[0]] == 1:
            made = linear(torch.tensor(matrix).t().contiguous(), None)
            better = self.biases.get(node.outputs[0], names[0]).removesuffix(".bias")
            return self._place(made, names, True, better), node.inputs[:1]
        return None

    def _is_plain(self, node: Node) -> bool:
        scales = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
        return scales == (1.0, 1.0) and not node.attributes.get("transA", 0)

    def _have(self, names: tuple[str, ...]) -> bool:
        return bool(names) and all(not name or name in self.arrays for name in names)

    def _tensors(self, names: tuple[str, ...]) -> tuple[Tensor, Tensor | None]:
        first, *rest = (torch.tensor(self.arrays[name]) for name in names if name)
        return first, rest[0] if rest else None

    def _place(
        self, made: nn.Module, names: tuple[str, ...], transposed: bool, better: str = ""
    ) -> str:
        """Put a layer where its weight's name says; one that is used twice is there once."""
        if names in self.layers:
            return self.layers[names]
        path = self._free(better or names[0].removesuffix(".weight"))
        own = f"{path}.convolution" if isinstance(made, Padded) else path
        self._put(path, made)
        for initialiser, attribute in zip(names, ("weight", "bias"), strict=False):
            if initialiser:
                flipped = transposed and attribute == "weight"
                self.model.sources[f"{own}.{attribute}"] = (initialiser, flipped)
        self.layers[names] = path
        return path

    def _operation(self, node: Node) -> str:
        known: dict[int, Any] = {}
        for i, name in enumerate(node.inputs):
            array = self.arrays.get(name)
            if array is None:
                continue
            if array.dtype.kind in "iub" and array.ndim == 1 and node.operator in _SIZES:
                known[i] = array.tolist()
            elif array.ndim == 0 and node.operator in (*_SIZES, *_ARITHMETIC):
                known[i] = array.item()
            else:
                self._keep(name, array)
        path = self._free(f"{node.operator.lower()}_{node.outputs[0]}")
        self._put(path, Operation(node, known))
        return path

    def _keep(self, name: str, array: np.ndarray) -> None:
        """Hold a tensor that an operator reads: a parameter where it could be trained."""
        if name in self.model.constants:
            return
        attribute = f"constant_{len(self.model.constants)}_{_plain(name)}"
        tensor = torch.tensor(array)
        if array.dtype.kind == "f" and array.ndim >= 1 and array.size > 1:
            self.model.register_parameter(attribute, nn.Parameter(tensor))
            self.model.sources[attribute] = (name, False)
        else:
            self.model.register_buffer(attribute, tensor)
        self.model.constants[name] = attribute

    def _put(self, path: str, made: nn.Module) -> None:
        parent: nn.Module = self.model
        *folders, last = path.split(".")
        for folder in folders:
            if folder not in parent._modules:
                parent.add_module(folder, nn.Module())
            parent = parent.get_submodule(folder)
        parent.add_module(last, made)

    def _free(self, name: str) -> str:
        """A path that nothing has, as near to the name as a path may be."""
        parts = [_plain(part) for part in name.split(".")]
        path, count = ".".join(parts), 1
        while self._taken(path):
            count += 1
            path = f"{'.'.join(parts)}_{count}"
        return path

    def _taken(self, path: str) -> bool:
        module: Any = self.model
        for part in path.split("."):
            if not isinstance(module, nn.Module):
                return True
            if part in module._modules:
                module = module._modules[part]
            elif hasattr(module, part):
                return True
            else:
                # A layer has no room for others inside it.
                return type(module) is not nn.Module and module is not self.model
        return True


def _plain(name: str) -> str:
    cleaned = re.sub(r"\W", "_", name.strip("/"))[:80] or "value"
    return f"_{cleaned}" if cleaned[0].isdigit() and not cleaned.isdigit() else cleaned


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)
