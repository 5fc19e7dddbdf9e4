"""A graph as a file of plain data: safetensors with the operators as JSON in its header.

What a separate process made of an ONNX file, so that nobody else need parse that file.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sparsity_core.errors import SparsityError
from sparsity_core.intake.onnx_file import Graph, Node

_ARRAY = "array in an attribute: "


def save_graph(graph: Graph, path: Path) -> None:
    """Write a graph; `load_graph` reads it back."""
    arrays = {name: np.asarray(array, order="C") for name, array in graph.arrays.items()}
    nodes = []
    for i, node in enumerate(graph.nodes):
        attributes: dict[str, Any] = dict(node.attributes)
        for name, value in node.attributes.items():
            if isinstance(value, np.ndarray):
                key = f"{_ARRAY}{i} {name}"
                arrays[key], attributes[name] = np.asarray(value, order="C"), key
        nodes.append([node.operator, node.inputs, node.outputs, attributes])
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    said = {"inputs": graph.inputs, "outputs": graph.outputs, "nodes": nodes, "shapes": shapes}
    save_file(arrays, path, metadata={"graph": json.dumps(said)})


def load_graph(path: Path) -> Graph:
    """The graph that `save_graph` wrote."""
    try:
        with safe_open(path, framework="np") as file:
            said = json.loads((file.metadata() or {})["graph"])
            found = {n: file.get_tensor(n).reshape(s) for n, s in said["shapes"].items()}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise SparsityError(f"{path}: holds no graph ({error}); upload the model again") from error
    nodes = [
        Node(operator, tuple(inputs), tuple(outputs), {
            name: found[value] if isinstance(value, str) and value.startswith(_ARRAY) else value
            for name, value in attributes.items()
        })
        for operator, inputs, outputs, attributes in said["nodes"]
    ]  # fmt: skip
    arrays = {name: array for name, array in found.items() if not name.startswith(_ARRAY)}
    return Graph(tuple(said["inputs"]), tuple(said["outputs"]), tuple(nodes), arrays)
