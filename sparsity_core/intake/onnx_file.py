"""An ONNX file as plain data: checked, and with nothing from elsewhere on the disk."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sparsity_core.errors import SparsityError

_LARGEST = 4 << 30  # bytes of the file and of the numbers beside it
_MOST_NODES = 100_000


@dataclass(frozen=True)
class Node:
    """One operator: names of the values it reads ("" = left out) and makes, and its attributes."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators in the order in which they run, with the numbers that the file holds."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    arrays: dict[str, np.ndarray]


def read_onnx(path: Path | str) -> Graph:
    """The graph of a file; its numbers may lie in files beside it, and nowhere else.

    Raises SparsityError for an empty graph, a damaged file, numbers that lie elsewhere, and parts
    that have no fixed order of operators, such as If and Loop.
    """
    path, onnx = Path(path), needed("onnx")
    model = load_proto(path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    if not graph.node or not graph.output:
        raise SparsityError(f"{path}: a graph without any operator; export the model again")
    if len(graph.node) > _MOST_NODES:
        raise SparsityError(f"{path}: {len(graph.node)} operators; {_MOST_NODES} at most")
    arrays = {tensor.name: _array(tensor) for tensor in graph.initializer}
    if graph.sparse_initializer:
        raise SparsityError(f"{path}: has sparse initialisers; export it with dense ones")
    found = Graph(
        inputs=tuple(value.name for value in graph.input if value.name not in arrays),
        outputs=tuple(value.name for value in graph.output),
        nodes=tuple(_node(path, node) for node in graph.node),
        arrays=arrays,
    )
    _check_order(path, found)
    return found


def load_proto(path: Path) -> Any:
    """The file as onnx reads it, with the numbers that lie in files beside it."""
    onnx = needed("onnx")
    try:
        size = path.stat().st_size
        if not 0 < size <= _LARGEST:
            raise SparsityError(f"{path}: has {size} bytes; 1 to {_LARGEST}")
        model = onnx.load(str(path), load_external_data=False)
        _check_places(path, _tensors(onnx, model))
        onnx.load_external_data_for_model(model, str(path.parent))
    except SparsityError:
        raise
    except Exception as error:  # protobuf, onnx and the disk each have their own errors
        lines = str(error).splitlines() or [type(error).__name__]
        raise SparsityError(
            f"{path}: not a sound ONNX file ({lines[0]}); export the model again"
        ) from error
    return model


def needed(package: str) -> Any:
    """An optional package, or how to get it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise SparsityError(
            f"{package} is not installed; install it with: pip install 'sparsity-explorer[onnx]'"
        ) from error


def _tensors(onnx: Any, model: Any) -> Iterable[Any]:
    yield from onnx.external_data_helper._get_all_tensors(model)


def _check_places(path: Path, tensors: Iterable[Any]) -> None:
    """Numbers outside the file are taken from a plain file beside it, whatever onnx allows."""
    total = 0
    for tensor in tensors:
        if tensor.data_location != 1:  # TensorProto.EXTERNAL
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        place = said.get("location", "")
        beside = path.parent / place
        plain = place and place == Path(place).name and place.isprintable() and "\\" not in place
        if not plain or place in (".", "..") or beside.is_symlink() or not beside.is_file():
            raise SparsityError(
                f"{path}: the numbers of {tensor.name!r} lie at {place!r}; only a file beside the "
                "model is read"
            )
        total += int(said.get("length", 0) or 0)
        if total > _LARGEST:
            raise SparsityError(f"{path}: asks for more than {_LARGEST} bytes of numbers")


def _check_order(path: Path, graph: Graph) -> None:
    """Everything that is read is made before; onnx's own check refuses files that run well."""
    made = {"", *graph.inputs, *graph.arrays}
    for node in graph.nodes:
        if strange := [name for name in node.inputs if name not in made]:
            raise SparsityError(
                f"{path}: {node.operator} reads {strange[0]!r} before anything makes it; export "
                "the model again"
            )
        made.update(node.outputs)
    if strange := [name for name in graph.outputs if name not in made]:
        raise SparsityError(f"{path}: nothing makes the output {strange[0]!r}; export it again")


def _node(path: Path, node: Any) -> Node:
    if node.domain not in ("", "ai.onnx"):
        raise SparsityError(
            f"{path}: the operator {node.domain}.{node.op_type} is of one program alone; export "
            "the model without that program's optimisations"
        )
    attributes = {item.name: _attribute(path, node, item) for item in node.attribute}
    return Node(node.op_type, tuple(node.input), tuple(node.output), attributes)


def _attribute(path: Path, node: Any, item: Any) -> Any:
    onnx = needed("onnx")
    value = onnx.helper.get_attribute_value(item)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return _array(value)
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return value
    try:
        return [float(v) if isinstance(v, float) else int(v) for v in value]
    except (TypeError, ValueError) as error:
        raise SparsityError(
            f"{path}: {node.op_type} has the attribute {item.name}, which has no plain form: "
            "models with If, Loop or Scan are not known here; export one without branches"
        ) from error


def _array(tensor: Any) -> np.ndarray:
    array: np.ndarray = needed("onnx").numpy_helper.to_array(tensor)
    if array.dtype.name in ("float16", "bfloat16", "float64"):
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise SparsityError(f"{tensor.name}: numbers of type {array.dtype} are not known here")
    return array
