"""An ONNX graph as a plain nn.Module, so that all that works on models works on it."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.intake.onnx_build import build_
from sparsity_core.intake.onnx_file import Graph, load_proto, needed
from sparsity_core.intake.onnx_ops import OPERATORS
from sparsity_core.intake.packed import Packing

_APART = 1e-4  # how far from onnxruntime, as a share of the largest output


class OnnxModel(nn.Module):
    """Runs operators one after another; layers are torch's own modules, named as their weights.

    `sources`: for each parameter the initialiser that it came from, and whether it lies transposed.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.names = graph.inputs
        self.outputs = graph.outputs
        self.sources: dict[str, tuple[str, bool]] = {}
        self.steps: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        self.constants: dict[str, Any] = {}  # value -> a number, a list, or a buffer's name
        build_(self, graph)

    def forward(self, *given: Tensor, **named: Tensor) -> Any:
        """Inputs by place or by name; a tensor, or a dict of several outputs."""
        values: dict[str, Any] = dict(zip(self.names, given, strict=False)) | named
        for path, reads, makes in self.steps:
            found = self.get_submodule(path)(*[self._value(values, name) for name in reads])
            several = len(makes) > 1 and isinstance(found, tuple | list)
            values.update(zip(makes, found if several else [found], strict=False))
        if len(self.outputs) == 1:
            return self._value(values, self.outputs[0])
        return {name: self._value(values, name) for name in self.outputs}

    def _value(self, values: dict[str, Any], name: str) -> Any:
        if name in values:
            return values[name]
        constant = self.constants.get(name)
        return getattr(self, constant) if isinstance(constant, str) else constant


def module_of(graph: Graph) -> nn.Module:
    """The module; its class bears the graph's digest. SparsityError names unknown operators."""
    unknown = Counter(
        node.operator
        for node in graph.nodes
        if node.operator not in (*OPERATORS, "Conv", "Gemm", "BatchNormalization", "Constant")
    )
    if unknown:
        listed = ", ".join(f"{name} ({count})" for name, count in unknown.items())
        raise SparsityError(f"operators that are not known here: {listed}; export another way")
    shape = repr([(n.operator, n.inputs, n.outputs, sorted(n.attributes)) for n in graph.nodes])
    digest = hashlib.sha256(shape.encode()).hexdigest()[:12]
    own = type("OnnxModel", (OnnxModel,), {"__qualname__": f"OnnxModel[{digest}]"})
    model: nn.Module = own(graph).eval()
    return model


def agreement(model: nn.Module, path: Path, inputs: Tensor, packing: Packing | None = None) -> str:
    """How the module compares with onnxruntime on a few inputs; SparsityError when it differs.

    `packing` says how several inputs lie in one tensor.
    """
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    positional, named = packing.unpack(inputs) if packing else ([inputs], {})
    asked = session.get_inputs()
    given = {i.name: x for i, x in zip(asked, positional, strict=False)} | named
    types = {i.name: np.int64 if "int64" in i.type else np.float32 for i in asked}
    try:
        feeds = {name: x.numpy().astype(types[name]) for name, x in given.items() if name in types}
        expected = session.run(None, feeds)[0]
    except Exception as error:  # onnxruntime has its own errors
        lines = str(error).splitlines() or [""]
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in given.items())
        raise SparsityError(
            f"{path}: onnxruntime cannot run it on inputs {shapes} ({lines[0]}); "
            "export with a dynamic batch, and check --input-size"
        ) from error
    with torch.no_grad():
        found = model(*positional, **named)
    found = next(iter(found.values())) if isinstance(found, dict) else found
    apart = float((found - torch.from_numpy(expected)).abs().max())
    if apart > _APART * max(1.0, float(np.abs(expected).max())):
        raise SparsityError(f"{path}: the outputs differ from onnxruntime's by {apart:.2g}")
    return f"outputs agree with onnxruntime's to {apart:.1g}"


def write_back(model: nn.Module, source: Path, target: Path) -> None:
    """The ONNX file `source` with the weights that the module, or a pruned copy, has now.

    Operators, names and everything else stay as they are; zeros are zeros.
    """
    onnx = needed("onnx")
    proto = load_proto(source)
    places = {tensor.name: tensor for tensor in proto.graph.initializer}
    sources: dict[str, tuple[str, bool]] = model.sources  # type: ignore[assignment]
    for name, parameter in model.named_parameters():
        initialiser, transposed = sources.get(name, ("", False))
        if not initialiser:
            continue
        tensor = places[initialiser]
        values = parameter.detach().t() if transposed else parameter.detach()
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        array = values.contiguous().numpy().reshape(tuple(tensor.dims)).astype(kind)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, initialiser))
    onnx.save(proto, str(target))
